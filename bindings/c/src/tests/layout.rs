//! Sizes and offsets of all structs: the list that `tests/abi/layout.c` checks in C.

use std::mem::{offset_of, size_of};

use crate::calibration::{f2d2_calibration_info, f2d2_calibration_options};
use crate::detector::{f2d2_detector_options, f2d2_engine_report};
use crate::failure::f2d2_error;
use crate::frame::f2d2_frame;
use crate::inspection::f2d2_inspection;
use crate::latency::f2d2_stats;
use crate::limits::f2d2_limits;
use crate::model::f2d2_model_info;
use crate::sampler::f2d2_sampler_options;
use crate::session::f2d2_session_options;

macro_rules! layouts {
    ($($name:ident { $($field:ident),+ })+) => {
        /// One line per struct and one per field.
        fn list() -> String {
            let mut list = String::new();
            $(
                list += &format!("SIZE({}, {})\n", stringify!($name), size_of::<$name>());
                $(list += &format!(
                    "FIELD({}, {}, {})\n",
                    stringify!($name),
                    stringify!($field),
                    offset_of!($name, $field)
                );)+
                // A field that is missing here does not compile.
                #[allow(dead_code)]
                fn $name(all: $name) {
                    let $name { $($field: _),+ } = all;
                }
            )+
            list
        }
    };
}

layouts! {
    f2d2_error { struct_size, status, message, source, hint, function }
    f2d2_limits {
        struct_size, reserved, file_bytes, nodes, initializers, rank, dimension, tensor_bytes, name_bytes, image_values
    }
    f2d2_model_info {
        struct_size, channels, height, width, steps, noise_floors, scores, samples, file_bytes, hash, name, licence,
        guides, reserved
    }
    f2d2_frame {
        struct_size, format, data, size, stride, width, height, roi_x, roi_y, roi_width, roi_height
    }
    f2d2_inspection {
        struct_size, verdict, p_value, score, threshold, nll_nats, bpd, elapsed_ns, steps, reserved, engine
    }
    f2d2_calibration_options { struct_size, reserved, alpha, delta, seed }
    f2d2_calibration_info { struct_size, components, images, alpha, delta, threshold, band_low, band_high }
    f2d2_detector_options {
        struct_size, threads, steps, heat_maps, skip_self_test, log_level, noise_floor_count, reserved, noise_floors,
        engine, adapter, calibration, log, log_user_data, pool, precision, background, cpu_on_loss
    }
    f2d2_engine_report { struct_size, threads, engine, precision, reason }
    f2d2_stats {
        struct_size, reserved, calls, frames, normal, anomalous, invalid, unjudged, latency_sum_ns, latency_min_ns,
        latency_max_ns, latency
    }
    f2d2_session_options { struct_size, max_batch, log_level, reserved, log, log_user_data }
    f2d2_sampler_options { struct_size, threads, engine, adapter, pool, precision, background, cpu_on_loss }
}

#[test]
#[cfg(target_pointer_width = "64")]
fn layouts_are_those_of_the_list() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/abi/layout.def");
    let committed = std::fs::read_to_string(path).unwrap();
    let (head, lines) = committed.split_once("\n").unwrap();
    assert!(head.starts_with("/*"));
    assert_eq!(lines, list(), "tests/abi/layout.def is not what the structs are");
}
