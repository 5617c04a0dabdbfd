//! What kernels are told about a call: the structures of the WGSL files, byte for byte.

use bytemuck::{Pod, Zeroable};

/// Largest number of sources of moments of one prologue.
pub(super) const SOURCES: usize = 4;
/// Largest number of channel-wise steps of one prologue.
pub(super) const STEPS: usize = 8;

/// Defines structures together with the names and positions of their members, which the tests hold against WGSL.
macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident { $($member:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
        pub(super) struct $name { $(pub(super) $member: $type),* }

        #[cfg(test)]
        impl $name {
            pub(super) fn members() -> Vec<(&'static str, usize)> {
                vec![$((stringify!($member), std::mem::offset_of!($name, $member))),*]
            }
        }
    )*};
}

structures! {
    /// Where the pixels of an image lie; `image` is the distance between images.
    ImageAt { offset: u32, row: u32, pixel: u32, image: u32 }

    /// What all images of a run have in common.
    Run { images_per_leg: u32, leg_words: u32, sequence: u32, images: u32 }

    /// See `prologue.wgsl`.
    PrologueOf {
        channels: u32,
        groups: u32,
        sources: u32,
        steps: u32,
        epsilon: f32,
        pixels: u32,
        moments_per_image: u32,
        unused: u32,
        source: [[u32; 4]; SOURCES],
        stride: [u32; 4],
        copies: [u32; 4],
        step: [[u32; 4]; STEPS],
    }

    /// See `convolution_call.wgsl`.
    ConvolutionOf {
        input: ImageAt,
        residual: ImageAt,
        output: ImageAt,
        prologue: PrologueOf,
        height: u32,
        width: u32,
        channels: u32,
        upsample: u32,
        stride_down: u32,
        stride_right: u32,
        padding_above: u32,
        padding_left: u32,
        kernel_width: u32,
        inner: u32,
        columns: u32,
        output_channels: u32,
        interleave: u32,
        grid_width: u32,
        grid_pixels: u32,
        bias: u32,
        scale: f32,
        moments: u32,
        unused_a: u32,
        unused_b: u32,
    }

    /// See `moments.wgsl`.
    MomentsOf {
        input: ImageAt,
        width: u32,
        pixels: u32,
        channels: u32,
        moments: u32,
        moments_per_image: u32,
        unused_a: u32,
        unused_b: u32,
        unused_c: u32,
    }

    /// See `merge.wgsl`.
    MergeOf {
        partial: u32,
        to: u32,
        channels: u32,
        partials: u32,
        per_partial: u32,
        pixels: u32,
        moments_per_image: u32,
        copies: u32,
    }

    /// See `apply.wgsl`.
    ApplyOf {
        input: ImageAt,
        output: ImageAt,
        prologue: PrologueOf,
        width: u32,
        pixels: u32,
        unused_a: u32,
        unused_b: u32,
    }

    /// Where the vectors of a head lie.
    TokensAt { offset: u32, head: u32, token: u32, channel: u32 }

    /// See `attention.wgsl`.
    AttentionOf {
        query: TokensAt,
        key: TokensAt,
        value: TokensAt,
        output: TokensAt,
        image: [u32; 4],
        channels: u32,
        value_channels: u32,
        keys: u32,
        scale: f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members of the structure `name` and its size, as naga lays it out.
    fn wgsl(text: &str, name: &str) -> (Vec<(String, usize)>, usize) {
        let module = naga::front::wgsl::parse_str(text).unwrap();
        let found = module.types.iter().find(|(_, t)| t.name.as_deref() == Some(name)).unwrap();
        let naga::TypeInner::Struct { members, span } = &found.1.inner else { panic!("{name}") };
        let of = |m: &naga::StructMember| (m.name.clone().unwrap(), m.offset as usize);
        (members.iter().map(of).collect(), *span as usize)
    }

    /// Whether a Rust structure is laid out as the WGSL one.
    fn same(rust: &[(&str, usize)], size: usize, wgsl: &(Vec<(String, usize)>, usize)) -> bool {
        let rust: Vec<_> = rust.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
        (&rust, size) == (&wgsl.0, wgsl.1)
    }

    #[test]
    fn structures_are_laid_out_as_in_wgsl() {
        let run = include_str!("shaders/run.wgsl");
        // Structures only: the functions name what is generated.
        let structures = |text: &str| -> String {
            let parts = text.split("struct ").skip(1);
            parts.map(|p| format!("struct {}}}\n", p.split('}').next().unwrap())).collect()
        };
        let prologue = include_str!("shaders/prologue.wgsl");
        let text = |file: &str| -> String { [run, prologue, file].map(structures).concat() };
        macro_rules! check {
            ($type:ident, $name:literal, $file:literal) => {
                let wgsl = wgsl(&text(include_str!($file)), $name);
                assert!(
                    same(&$type::members(), size_of::<$type>(), &wgsl),
                    "{} {:?} {wgsl:?}",
                    $file,
                    $type::members()
                );
                let mut moved = wgsl.clone();
                moved.0[0].1 += 4;
                assert!(!same(&$type::members(), size_of::<$type>(), &moved));
                assert!(!same(&$type::members(), size_of::<$type>() + 4, &wgsl));
            };
        }
        check!(ImageAt, "Image", "shaders/moments.wgsl");
        check!(Run, "Run", "shaders/moments.wgsl");
        check!(PrologueOf, "Prologue", "shaders/apply.wgsl");
        check!(ConvolutionOf, "Params", "shaders/convolution_call.wgsl");
        check!(MomentsOf, "Params", "shaders/moments.wgsl");
        check!(MergeOf, "Params", "shaders/merge.wgsl");
        check!(ApplyOf, "Params", "shaders/apply.wgsl");
        check!(TokensAt, "Tokens", "shaders/attention.wgsl");
        check!(AttentionOf, "Params", "shaders/attention.wgsl");
    }
}
