//! Vector instructions chosen at run time.

/// The widest vector instructions of this machine that a kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// 16 lanes.
    Avx512,
    /// 8 lanes with fused multiply-add.
    Avx2,
    /// Whatever every machine of this architecture has.
    Portable,
}

impl Isa {
    /// What this machine has. The standard library caches the answer.
    #[inline]
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Isa::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Isa::Avx2;
            }
        }
        Isa::Portable
    }
}

/// Defines a function whose loops are compiled once per instruction set; a call runs the widest
/// version that the machine has.
macro_rules! vectorised {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $type),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $type),*) {
                    body($($arg),*);
                }

                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $type),*) {
                    body($($arg),*);
                }

                match $crate::decoder::cpu::simd::Isa::detect() {
                    // SAFETY: the machine was just found to have these instructions.
                    $crate::decoder::cpu::simd::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::decoder::cpu::simd::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::decoder::cpu::simd::Isa::Portable => {}
                }
            }
            body($($arg),*);
        }
    };
}

pub(crate) use vectorised;
