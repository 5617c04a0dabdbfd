//! Damaged, hostile and merely wrong model files: each is refused with a typed error, none panics or aborts.
//!
//! Cases whose failure would end the process (an allocation of a size that stands in the file) run in a child
//! process, which is this test program again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod files;
mod graphs;
mod limits;
mod manifests;
mod processes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use f2d2::preprocess::noise;
use f2d2::{Detector, DetectorOptions, Error, ErrorCode, Limits, Model};
use f2d2_tests::gaussian::{Gaussian, MANIFEST_KEY, with_convolution};
use f2d2_tests::graph::{floats, indices, int, ints, node, value};
use f2d2_tests::grey;
use prost::Message;
use serde_json::{Value, json};
use tract_onnx::pb::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, OperatorSetIdProto, SparseTensorProto,
    StringStringEntryProto, TensorProto, tensor_proto::Segment,
    tensor_shape_proto::dimension::Value::DimValue,
};

use ErrorCode::{
    InvalidOption, Io, ModelCorrupt, ModelNotAllowed, ModelTooLarge, ModelTooNew, SelfTest,
};

fn gaussian() -> Gaussian {
    Gaussian::new(1, 5, 7, 3)
}

/// Everything that is done with a file: check, load, self-test, one frame.
fn use_file(bytes: &[u8], limits: &Limits) -> Result<(), Error> {
    let model = Model::from_bytes("bad", bytes, limits)?;
    let options = DetectorOptions { threads: 1, ..DetectorOptions::default() };
    let detector = Detector::from_model(Arc::new(model), options)?;
    let inspection = detector.inspect(&grey(&[7; 35], 7, 5));
    assert_eq!(inspection.measurement.is_none(), inspection.verdict.is_some());
    Ok(())
}

fn outcome(name: &str, bytes: &[u8]) -> Result<(), Error> {
    let used = catch_unwind(AssertUnwindSafe(|| use_file(bytes, &Limits::default())));
    used.unwrap_or_else(|_| panic!("{name}: panicked"))
}

#[track_caller]
fn refused(name: &str, bytes: &[u8], codes: &[ErrorCode]) {
    match outcome(name, bytes) {
        Ok(()) => panic!("{name}: accepted, need {codes:?}"),
        Err(error) => {
            assert!(
                codes.contains(&error.code()),
                "{name}: {:?}, need {codes:?}: {error}",
                error.code()
            );
        }
    }
}

type Change = fn(&mut GraphProto);
type Bound = fn(&mut Limits);

fn changed(change: impl FnOnce(&mut GraphProto)) -> Vec<u8> {
    let mut proto = gaussian().proto();
    change(proto.graph.as_mut().unwrap());
    proto.encode_to_vec()
}

fn tensor<'a>(graph: &'a mut GraphProto, name: &str) -> &'a mut TensorProto {
    graph.initializer.iter_mut().find(|t| t.name == name).unwrap()
}
