//! The floating-point environment: Rust is compiled for the default one, and the host may have set another.
//!
//! Flush-to-zero, another rounding mode or unmasked exceptions would change scores or end the process. The host gets
//! its own back when the call returns. Threads that a detector starts inherit the default one.

/// The default environment while it lives, the caller's again after.
pub(crate) struct Default {
    callers: register::Value,
}

impl Default {
    pub(crate) fn new() -> Self {
        let callers = register::read();
        if callers != register::DEFAULT {
            register::write(register::DEFAULT);
        }
        Self { callers }
    }
}

impl Drop for Default {
    fn drop(&mut self) {
        // Flags that were raised inside are not the host's.
        if register::read() != self.callers {
            register::write(self.callers);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod register {
    use std::arch::asm;

    /// MXCSR.
    pub(super) type Value = u32;
    /// All exceptions masked, round to nearest, denormals kept, no flags.
    pub(super) const DEFAULT: Value = 0x1f80;

    pub(super) fn read() -> Value {
        let mut value = 0;
        // SAFETY: stores the control register in the variable; every x86-64 has it.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
        value
    }

    pub(super) fn write(value: Value) {
        // SAFETY: `value` is the default or was read before, so no reserved bit is set.
        unsafe {
            asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags))
        };
    }
}

#[cfg(target_arch = "aarch64")]
mod register {
    use std::arch::asm;

    /// FPCR.
    pub(super) type Value = u64;
    /// No traps, round to nearest, denormals kept.
    pub(super) const DEFAULT: Value = 0;

    pub(super) fn read() -> Value {
        let value;
        // SAFETY: reads the control register, which every user program may.
        unsafe { asm!("mrs {}, fpcr", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }

    pub(super) fn write(value: Value) {
        // SAFETY: `value` is the default or was read before, so no reserved bit is set.
        unsafe { asm!("msr fpcr, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod register {
    /// Unknown here: left as the host set it.
    pub(super) type Value = ();
    pub(super) const DEFAULT: Value = ();

    pub(super) fn read() -> Value {}

    pub(super) fn write((): Value) {}
}
