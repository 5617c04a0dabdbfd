//! What is thrown: a message that ends with the stable code, since `rust::Error` carries text alone.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Code of a panic inside the library: a defect, reported instead of ending the program.
const PANIC: u32 = 900;

/// A failed call.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u32,
    pub(crate) message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [f2d2 {}]", self.message, self.code)
    }
}

impl From<f2d2::Error> for Failure {
    fn from(error: f2d2::Error) -> Self {
        Self { code: error.code() as u32, message: error.to_string() }
    }
}

/// Runs `work`; a panic is a failure, because cxx would end the program.
pub(crate) fn guard<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // Objects behind shared references are immutable, and a failed exclusive call replaces nothing halfway.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "unknown reason".into());
        Err(Failure { code: PANIC, message: format!("the library panicked: {text}") })
    })
}

pub(crate) fn error_code(what: &str) -> u32 {
    let code = what.strip_suffix(']').and_then(|rest| rest.rsplit_once("[f2d2 "));
    code.and_then(|(_, code)| code.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_survives_the_text() {
        let error = f2d2::Error::NonFinite { what: "a [f2d2 7] statistic" };
        assert_eq!(error_code(&Failure::from(error).to_string()), 303);
        for other in ["", "no code", "[f2d2 ]", "[f2d2 x]", "[f2d2 3] more"] {
            assert_eq!(error_code(other), 0, "{other}");
        }
    }

    #[test]
    fn a_panic_is_a_failure() {
        for (panic, text) in [
            (guard(|| -> Result<(), _> { panic!("fixed") }), "fixed"),
            (guard(|| -> Result<(), _> { panic!("number {}", 3) }), "number 3"),
        ] {
            let failure = panic.unwrap_err().to_string();
            assert!(failure.contains(text), "{failure}");
            assert_eq!(error_code(&failure), PANIC);
        }
    }
}
