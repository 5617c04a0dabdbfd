//! What is said when a command fails: what happened, then what to do about it.

use f2d2::ErrorCode;

/// One line, lower case, without the leading `error:`.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Some errors already tell their cause.
        if !text.ends_with(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    let code = error.chain().find_map(|e| e.downcast_ref::<f2d2::Error>()).map(f2d2::Error::code);
    match code.and_then(remedy) {
        Some(remedy) => format!("{text}; {remedy}"),
        None => text,
    }
}

fn remedy(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::ModelCorrupt => "export it again with the recipe in models/train",
        ErrorCode::ModelTooNew => "update f2d2",
        ErrorCode::ModelNotAllowed => "export the model with the operators that f2d2 reads",
        ErrorCode::SelfTest => "use another --engine, or export the model again",
        ErrorCode::EngineUnavailable => "use --engine auto to take what works here",
        ErrorCode::TooFewImages => "give more normal images, or raise --alpha or --delta",
        ErrorCode::CalibrationCorrupt => "make a new one with f2d2 calibrate",
        ErrorCode::CalibrationMismatch => {
            "run with the options it was made with, or make a new one with f2d2 calibrate"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let source = std::io::Error::other("disk is full");
        let error = f2d2::Error::Io { action: "write", path: "a.json".into(), source };
        let text = describe(&anyhow::Error::new(error));
        assert_eq!(text, "cannot write a.json: disk is full");
    }

    #[test]
    fn cause_and_remedy_are_both_told() {
        let error = anyhow::Error::new(f2d2::Error::TooFewImages { got: 3, need: 90 });
        let text = describe(&error.context("calibrating"));
        assert!(text.starts_with("calibrating: calibration got 3 usable images"), "{text}");
        assert!(text.ends_with("; give more normal images, or raise --alpha or --delta"), "{text}");
    }
}
