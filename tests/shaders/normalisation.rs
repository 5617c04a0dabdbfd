//! Moments, and normalisations on their own.

use super::*;

#[test]
fn normalisation_over_joined_images() {
    for_each_precision(|options| {
        let mut b = Builder::new(70);
        let (h, w) = (9, 7);
        let joined = b.image(h, w, 10);
        let part = |offset, channels| Image { offset, channels, ..joined };
        let mut sources = Vec::new();
        let mut given = Vec::new();
        for (offset, channels) in [(0, 3), (3, 7)] {
            let input = b.image(h, w, 2);
            given.push((input.buffer, 1.0));
            let mut c = b.convolution(input, part(offset, channels), [3, 3]);
            let moments = b.moments(&part(offset, channels));
            c.moments = Some(moments);
            sources.push((moments, 0, channels));
            b.call(Call::Convolution(c));
        }
        let output = b.inside(h, w, 10);
        let prologue = Prologue {
            normalisation: Some(Normalisation { channels: sources, groups: 2, epsilon: 1e-5 }),
            affine: vec![],
            activation: Activation::Silu,
        };
        b.call(Call::Apply(Apply { input: joined, prologue, output }));
        b.check("joined", &given, options);
    });
}

#[test]
fn moments_and_apply_alone() {
    for_each_precision(|options| {
        for (h, w, channels, groups) in [(1, 1, 4, 2), (5, 3, 6, 6), (67, 31, 66, 3), (3, 2, 1, 1)]
        {
            let mut b = Builder::new(80);
            let (input, output) = (b.inside(h, w, channels), b.inside(h, w, channels));
            let prologue = b.normalised(input, groups);
            b.call(Call::Apply(Apply { input, prologue, output }));
            b.check(&format!("{h}x{w}x{channels}/{groups}"), &[(input.buffer, 3.0)], options);
        }
    });
}
