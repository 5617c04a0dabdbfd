//! How many images of a batch one thread carries side by side.

use super::convolution::shared_time;
use crate::flow::plan::{Call, Plan};

/// Numbers of images to choose from.
const SIZES: [usize; 3] = [1, 2, 4];

/// The number with the least modelled time per image: images of a group share the transformation of kernels, but do not
/// stay in a near cache together where they are large.
pub(super) fn group(plan: &Plan) -> usize {
    let time = |&images: &usize| -> usize {
        let convolutions = plan.calls.iter().filter_map(|call| match call {
            Call::Convolution(call) => Some(call),
            _ => None,
        });
        convolutions.map(|call| shared_time(call, images)).sum()
    };
    SIZES.into_iter().min_by_key(time).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use crate::flow::plan::lower;
    use crate::model::{Limits, Model};

    #[test]
    fn large_images_go_alone_and_small_ones_side_by_side() {
        for (name, need) in [("casting", 1), ("fashion-mnist", 4)] {
            let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../models");
            let model = Model::open(format!("{models}/{name}/model.onnx"), &Limits::default());
            let model = model.unwrap();
            let plan = lower(model.graph(), model.manifest().preprocess.shape).unwrap();
            assert_eq!(super::group(&plan), need, "{name}");
        }
    }
}
