//! 8-bit images on their way to the device.

use super::*;

#[test]
fn eight_bit_images_become_the_states_of_the_cpu_bit_by_bit() {
    let Some(options) = device::options() else { return };
    let uniform = |seed| Dequantization::Uniform { seed };
    let cases = [
        (1, [1, 1], 1.0 / 128.0, -1.0, uniform(1)),
        (1, [28, 27], 1.0 / 128.0, -1.0, uniform(0xfeed_0000_0007)),
        (3, [61, 67], 1.0 / 128.0, -1.0, uniform(3)),
        (3, [5, 7], 1.0 / 256.0, 0.0, uniform(4)),
        (1, [5, 7], 1.0, -200.0, uniform(5)),
        (3, [5, 7], 0.25, -3.5, Dequantization::Midpoint),
    ];
    for (channels, [height, width], scale, offset, dequantization) in cases {
        let shape = Shape { channels, height, width };
        let resize = ResizeFilter::Box;
        let preprocess = Preprocess { shape, resize, dequantization, scale, offset };
        let mut plan = Builder::new(1).plan;
        plan.buffers[0] = shape.len();
        let probe = Probe::with_preprocess(plan, &preprocess, &options).unwrap();
        let image = |seed| -> Pixels {
            let levels = noise::uniform(seed, 0x62, shape.len()).into_iter();
            let data = levels.map(|u| (u * 256.0) as u8).collect();
            Pixels { channels, height, width, data }
        };
        let images: Vec<Pixels> = (0..3).map(image).collect();
        let images: Vec<&Pixels> = images.iter().collect();
        let schedule = Schedule::new(vec![1.0, 0.0]).unwrap();
        let starts = |seed| {
            let floors = vec![1.0, 0.97, 0.3];
            let schedules = floors.iter().map(|_| schedule.clone()).collect();
            Starts::new(&preprocess, seed, floors, schedules)
        };
        let got = probe.states(&images, &starts(9)).unwrap().unwrap();
        let bits = |starts: &Starts| -> Vec<u32> {
            let batches = starts.batches(&images).unwrap();
            let images = batches.iter().flat_map(|batch| batch.images());
            let pixels = |image: &[f32]| -> Vec<u32> {
                let at = |i: usize| image[i % channels * shape.pixels() + i / channels];
                (0..shape.len()).map(|i| at(i).to_bits()).collect()
            };
            images.flat_map(pixels).collect()
        };
        let got: Vec<u32> = got.iter().map(|v| v.to_bits()).collect();
        let wrong = got.iter().zip(&bits(&starts(9))).filter(|(g, n)| g != n).count();
        assert_eq!((wrong, got.len()), (0, 9 * shape.len()), "{shape:?} {scale} {offset}");
        assert_ne!(got, bits(&starts(10)), "another seed gives other noise");
    }
    // No whole numbers: the CPU makes these.
    for (scale, offset) in [(1.0 / 127.5, -1.0), (1.0 / 128.0, 0.5), (1.0 / 128.0, -0.1)] {
        let dequantization = Dequantization::Midpoint;
        let resize = ResizeFilter::Box;
        let preprocess = Preprocess { shape: PIXEL, resize, dequantization, scale, offset };
        let starts = Starts::new(&preprocess, 1, vec![], vec![]);
        let probe = Probe::with_preprocess(Builder::new(1).plan, &preprocess, &options).unwrap();
        assert_eq!(probe.states(&[], &starts).unwrap(), None, "{scale} {offset}");
    }
}
