//! Scores image files: `score_image MODEL [--calibration FILE] IMAGE...`

use std::error::Error;

use f2d2::{Calibration, Detector, DetectorOptions, Frame, PixelFormat};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).peekable();
    let model = arguments.next().ok_or("usage: score_image MODEL [--calibration FILE] IMAGE...")?;
    let mut detector = Detector::open(model, DetectorOptions::default())?;
    if arguments.next_if_eq("--calibration").is_some() {
        let file = arguments.next().ok_or("--calibration needs a file")?;
        detector.set_calibration(Calibration::load(file)?)?;
    }
    for path in arguments {
        let image = image::ImageReader::open(&path)?.with_guessed_format()?.decode()?.into_rgb8();
        let (width, height) = image.dimensions();
        let frame = Frame::packed(image.as_raw(), PixelFormat::Rgb8, width, height)?;
        let inspection = detector.inspect(&frame);
        let bits = inspection.measurement.map_or(f64::NAN, |m| m.bpd.0);
        match (inspection.verdict, inspection.score) {
            (Some(verdict), Some(score)) => {
                println!("{path}: {verdict:?}, p = {:.4}, {bits:.4} bits/dim", score.p_value);
            }
            (Some(verdict), None) => println!("{path}: {verdict:?}"),
            (None, _) => println!("{path}: not calibrated, {bits:.4} bits/dim"),
        }
    }
    Ok(())
}
