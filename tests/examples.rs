//! The example programs run and say what they should.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use f2d2::CalibrationOptions;
use f2d2_tests::gaussian::Gaussian;
use f2d2_tests::grey;
use f2d2_tests::programs::run;

const WIDTH: usize = 8;
const HEIGHT: usize = 6;

#[test]
fn score_image_gives_a_verdict_per_file() {
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| folder.path().join(name).display().to_string();
    let gaussian = Gaussian::new(1, HEIGHT, WIDTH, 31);
    std::fs::write(text("model.onnx"), gaussian.bytes()).unwrap();
    for (name, image) in [("normal.pgm", gaussian.image(4)), ("black.pgm", vec![0; WIDTH * HEIGHT])]
    {
        let head = format!("P5\n{WIDTH} {HEIGHT}\n255\n");
        std::fs::write(text(name), [head.as_bytes(), &image].concat()).unwrap();
    }
    let images = gaussian.images(100, 200);
    let frames: Vec<_> = images.iter().map(|i| grey(i, WIDTH as u32, HEIGHT as u32)).collect();
    let options = CalibrationOptions { alpha: 0.05, ..CalibrationOptions::default() };
    gaussian.detector().calibrate(&frames, &options).unwrap().save(text("c.json")).unwrap();

    let (model, normal, black) = (text("model.onnx"), text("normal.pgm"), text("black.pgm"));
    let said = run("score_image", &[&model, &normal]).expect(0).out();
    assert!(said.contains("not calibrated, ") && said.contains("bits/dim"), "{said}");
    let words = [&model, "--calibration", &text("c.json"), &normal, &black];
    let said = run("score_image", &words).expect(0).out();
    assert!(said.contains(&format!("{normal}: Normal, p = ")), "{said}");
    assert!(said.contains(&format!("{black}: Anomalous, p = ")), "{said}");
    assert!(run("score_image", &[&text("none.onnx"), &normal]).expect(1).err().contains("Error"));
}

#[test]
fn service_answers_every_frame() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    std::fs::write(&model, Gaussian::new(1, HEIGHT, WIDTH, 31).bytes()).unwrap();
    let model = model.display().to_string();
    for threads in ["1", "3"] {
        let said = run("service", &[&model, threads, "50"]).expect(0).out();
        assert!(said.starts_with(&format!("50 frames on {threads} threads, ")), "{said}");
        assert!(said.contains("0 invalid, 50 without a calibration"), "{said}");
    }
}

#[test]
fn edge_frames_judges_a_camera_and_a_video_on_each_engine() {
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| folder.path().join(name).display().to_string();
    let gaussian = Gaussian::new(1, HEIGHT, WIDTH, 31);
    std::fs::write(text("model.onnx"), gaussian.bytes()).unwrap();
    let mut video = format!("YUV4MPEG2 W{WIDTH} H{HEIGHT} F30:1 C420\n").into_bytes();
    for image in gaussian.images(0, 5) {
        video.extend(b"FRAME\n");
        video.extend(image);
        video.extend(vec![128; WIDTH * HEIGHT / 2]);
    }
    std::fs::write(text("video.y4m"), &video).unwrap();
    std::fs::write(text("cut.y4m"), &video[..video.len() - 1]).unwrap();
    let model = text("model.onnx");
    let mut engines = vec![vec!["--engine".to_owned(), "cpu".into()]];
    if let Some(options) = f2d2_tests::device::options() {
        let name = options.adapter.unwrap();
        engines.push(vec!["--engine".into(), "gpu".into(), "--adapter".into(), name]);
    }
    for engine in engines {
        let said = |words: &[&str], code: i32| {
            let all = [model.as_str()].into_iter().chain(engine.iter().map(String::as_str));
            let all: Vec<&str> = all.chain(words.iter().copied()).collect();
            run("edge-frames", &all).expect(code)
        };
        let out = said(&["--frames", "40"], 0).out();
        assert!(out.starts_with(&format!("engine    {}", engine[1])), "{out}");
        assert!(out.contains("40 judged, 0 dropped") && out.contains("0 invalid"), "{out}");
        let out = said(&["--video", &text("video.y4m")], 0).out();
        assert!(out.contains("5 judged, 0 dropped") && out.contains("p99.9"), "{out}");
        // Faster than any network: frames are dropped, and all are accounted for.
        let out = said(&["--frames", "500", "--rate", "1000000"], 0).out();
        let numbers: Vec<usize> = out
            .lines()
            .find_map(|line| line.strip_prefix("frames    "))
            .map(|line| line.split(", ").take(2))
            .unwrap()
            .map(|part| part.split(' ').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(numbers[0] + numbers[1], 500, "{out}");
        assert!(said(&["--video", &text("cut.y4m")], 1).err().contains("cut off"));
        assert!(said(&["--video", &model], 1).err().contains("Error"));
    }
}
