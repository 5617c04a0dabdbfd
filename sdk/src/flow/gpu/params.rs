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
        step: [[u32; 4]; STEPS],
    }

    /// See `convolution.wgsl`.
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
        unused: u32,
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
