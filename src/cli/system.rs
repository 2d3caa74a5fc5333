//! What the operating system says about this machine and process.

/// Largest resident memory of this process so far in bytes; `None` where the system does not say.
pub fn peak_memory() -> Option<u64> {
    kib_field("/proc/self/status", "VmHWM:")
}

/// Memory of this machine in bytes: in total, and what could be used now.
pub fn memory() -> Option<(u64, u64)> {
    Some((kib_field("/proc/meminfo", "MemTotal:")?, kib_field("/proc/meminfo", "MemAvailable:")?))
}

/// Name of the CPU; `None` where the system does not say.
pub fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Vector instructions that the CPU backend can use here.
pub fn vector_instructions() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx2") {
            found.push("AVX2");
        }
        if std::arch::is_x86_feature_detected!("fma") {
            found.push("FMA");
        }
        if std::arch::is_x86_feature_detected!("avx512f") {
            found.push("AVX-512");
        }
    }
    #[cfg(target_arch = "aarch64")]
    found.push("NEON");
    found
}

fn kib_field(path: &str, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    let kib: u64 = line[field.len()..].split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}
