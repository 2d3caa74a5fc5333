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

/// A few numbers that one instruction works on. A single number is one, too: it finishes what is
/// left after the last whole vector, and everything on machines without known vectors.
///
/// # Safety
/// `load` and `store` access [`Self::LANES`] numbers from the pointer on. All methods must be
/// inlined into a function that enables the instructions of the type.
pub trait Vector: Copy {
    const LANES: usize;
    /// Half as wide, or a single number after that.
    type Half: Vector;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn splat(value: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    /// `self * factor + term`, rounded once where the machine can.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
}

impl Vector for f32 {
    const LANES: usize = 1;
    type Half = f32;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: by the contract of the trait.
        unsafe { *from }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: by the contract of the trait.
        unsafe { *to = self }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        value
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self + other
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self - other
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        // Not f32::mul_add, which is a function call where the instruction is missing.
        self * factor + term
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Vector;

    macro_rules! vector {
        ($type:ty, $half:ty, $lanes:literal, $load:ident, $store:ident, $splat:ident, $add:ident,
         $sub:ident, $mul_add:ident) => {
            // SAFETY of all calls: by the contract of the trait.
            impl Vector for $type {
                const LANES: usize = $lanes;
                type Half = $half;

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: by the contract of the trait.
                    unsafe { $load(from) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: by the contract of the trait.
                    unsafe { $store(to, self) }
                }

                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    // SAFETY: by the contract of the trait.
                    unsafe { $splat(value) }
                }

                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    // SAFETY: by the contract of the trait.
                    unsafe { $add(self, other) }
                }

                #[inline(always)]
                unsafe fn sub(self, other: Self) -> Self {
                    // SAFETY: by the contract of the trait.
                    unsafe { $sub(self, other) }
                }

                #[inline(always)]
                unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
                    // SAFETY: by the contract of the trait.
                    unsafe { $mul_add(self, factor, term) }
                }
            }
        };
    }

    vector!(
        __m256,
        f32,
        8,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_fmadd_ps
    );
    vector!(
        __m512,
        __m256,
        16,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_fmadd_ps
    );
}

/// Defines a function that is compiled once per instruction set; a call runs the version for the
/// widest one that the machine has. In the body, `$vector` names the [`Vector`] of that version;
/// plain loops become vector instructions as well.
macro_rules! vectorised {
    ($(#[$doc:meta])* $vis:vis fn $name:ident<$vector:ident>($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) {
            #[inline(always)]
            fn body<$vector: $crate::decoder::cpu::simd::Vector>($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                fn avx512($($arg: $type),*) {
                    body::<std::arch::x86_64::__m512>($($arg),*);
                }

                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) {
                    body::<std::arch::x86_64::__m256>($($arg),*);
                }

                match $crate::decoder::cpu::simd::Isa::detect() {
                    // SAFETY: the machine was just found to have these instructions.
                    $crate::decoder::cpu::simd::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::decoder::cpu::simd::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::decoder::cpu::simd::Isa::Portable => {}
                }
            }
            body::<f32>($($arg),*);
        }
    };
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $crate::decoder::cpu::simd::vectorised! {
            $(#[$doc])* $vis fn $name<V>($($arg: $type),*) $body
        }
    };
}

pub(crate) use vectorised;
