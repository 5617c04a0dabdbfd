//! The step of the state, and what it reports.

use f2d2_tests::network::Network;

use super::*;

/// A network of `shape` whose velocity depends on the times and on all channels.
fn network(shape: Shape, scalar_head: bool) -> Network {
    let Shape { channels, height, width } = shape;
    let mut n = Network::new(channels, height, width, 500);
    let h = n.convolution(&n.image(), 5, 3);
    let h = n.modulate(&h);
    let h = n.silu(&h);
    n.finish_apart(&h, scalar_head)
}

#[test]
fn steps_of_two_legs_move_the_state_and_report_their_sums() {
    let Some(options) = device::options() else { return };
    // One workgroup of the update has 256 pixels.
    let shapes = [(3, 17, 19), (1, 1, 257), (3, 31, 37), (1, 2, 3)];
    let legs = [vec![(1.0, 0.6), (0.6, 0.0)], vec![(0.97, 0.3), (0.3, 0.1)]];
    for (channels, height, width) in shapes {
        for scalar_head in [false, true] {
            let shape = Shape { channels, height, width };
            let model = network(shape, scalar_head).model();
            let own = plan(&model).unwrap();
            let probe = Probe::new(plan(&model).unwrap(), shape, &options).unwrap();
            let formula = matches!(own.calls.last(), Some(Call::Pointwise(_)));
            let kernels = probe.kernels();
            assert_eq!(formula, !scalar_head, "the last call is the formula of the divergence");
            let before = kernels[kernels.len() - 2];
            assert_ne!(before, "pointwise", "the update evaluates it: {kernels:?}");
            for images in [1, 3] {
                let states: Vec<Vec<f32>> = (0..2 * images)
                    .map(|seed| noise::normal(seed as u64, 0x62, shape.len()))
                    .collect();
                let got = probe.carry(&states, &legs).unwrap();
                for (i, (state, got)) in states.iter().zip(&got).enumerate() {
                    let what = format!("{shape:?} scalar {scalar_head}, state {i} of {images} x 2");
                    compare_with_twin(&what, &own, state, &legs[i / images], got);
                }
            }
        }
    }
}

#[track_caller]
fn compare_with_twin(what: &str, plan: &Plan, state: &[f32], leg: &[(f64, f64)], got: &Stepped) {
    let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&v| f64::from(v)).collect() };
    let mut twin = Twin::new(plan);
    twin.buffers[plan.input] = wide(state);
    let mut map: Vec<f64> = vec![];
    let (mut squares, mut divergences) = (vec![], vec![]);
    for &(t, s) in leg {
        let step = twin.step(t, s);
        map.resize(step.map.len(), 0.0);
        map.iter_mut().zip(&step.map).for_each(|(sum, own)| *sum += own);
        squares.push(step.squares);
        divergences.push(step.divergence);
    }
    let same = |part: &str, got: &[f64], need: &[f64]| {
        assert!(
            !need.is_empty() && need.iter().any(|v| v.abs() > 1e-3),
            "{what}, {part}: {need:?}"
        );
        compare(got, need, KERNEL).unwrap_or_else(|why| panic!("{what}, {part}: {why}"));
    };
    same("state", &wide(&got.state), &twin.buffers[plan.input]);
    let of = |sum: fn(&(f64, f64)) -> f64| got.steps.iter().map(sum).collect::<Vec<_>>();
    same("squares", &of(|step| step.0), &squares);
    same("divergences", &of(|step| step.1), &divergences);
    match &got.map {
        Some(got) => same("map", &wide(got), &map),
        None => assert!(map.is_empty(), "{what}"),
    }
}
