use super::*;
use crate::flow::tract::TractFlow;
use crate::model::{Limits, Model};
use crate::preprocess::noise;

fn model() -> Model {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/fashion-mnist/model.onnx");
    Model::open(path, &Limits::default()).unwrap()
}

fn plan(model: &Model) -> Plan {
    crate::flow::plan::lower(model.graph(), model.manifest().preprocess.shape).unwrap()
}

fn native(model: &Model, set: InstructionSet, threads: usize) -> NativeFlow {
    let threads = Threads::shared(threads).unwrap();
    NativeFlow::on(set, model, plan(model), threads, Precision::F32, "test").unwrap()
}

fn batch(model: &Model, images: usize) -> Batch {
    let shape = model.manifest().preprocess.shape;
    let u = noise::uniform(1, noise::GOLDEN, images * shape.len());
    Batch::new(shape, u.into_iter().map(|u| 2.0 * u - 1.0).collect()).unwrap()
}

fn bits(result: &Transport) -> Vec<(u64, Vec<u32>)> {
    let one = |r: &Result<Transported>| {
        let r = r.as_ref().unwrap();
        (r.log_det.to_bits(), r.state.iter().map(|v| v.to_bits()).collect())
    };
    result.iter().map(one).collect()
}

#[test]
fn the_shipped_model_gives_what_tract_gives_on_every_instruction_set() {
    let model = model();
    let tract = TractFlow::new(&model, Threads::shared(2).unwrap(), "test").unwrap();
    let batch = batch(&model, 3);
    for steps in [1, 2] {
        let schedule = model.manifest().scoring_schedule(steps, 1.0).unwrap();
        for schedule in [schedule.clone(), schedule.reversed()] {
            let need = tract.transport(&batch, &schedule);
            for set in InstructionSet::all() {
                let got = native(&model, set, 1).transport(&batch, &schedule);
                for (got, need) in got.iter().zip(&need) {
                    let (got, need) = (got.as_ref().unwrap(), need.as_ref().unwrap());
                    let dims = need.state.len() as f64;
                    let per_dim = (got.log_det - need.log_det).abs() / dims;
                    assert!(per_dim < 2e-5, "{set}: {} and {}", got.log_det, need.log_det);
                    let far = got
                        .state
                        .iter()
                        .zip(&need.state)
                        .map(|(a, b)| (a - b).abs() / (1.0 + b.abs()));
                    let far = far.fold(0.0, f32::max);
                    assert!(far < 3e-4, "{set}: states differ by {far}");
                    assert!(need.log_det.is_finite() && far.is_finite());
                }
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_threads_nor_on_the_batch() {
    let model = model();
    let set = InstructionSet::detect().unwrap();
    let schedule = model.manifest().scoring_schedule(2, 1.0).unwrap();
    let all = batch(&model, 9);
    let need = bits(&native(&model, set, 1).transport(&all, &schedule));
    for threads in [2, 3] {
        let flow = native(&model, set, threads);
        assert_eq!(bits(&flow.transport(&all, &schedule)), need, "{threads} threads");
        for images in [1, 2, 4] {
            let some = Batch::new(all.shape(), all.values()[..images * all.shape().len()].to_vec())
                .unwrap();
            assert_eq!(
                bits(&flow.transport(&some, &schedule)),
                need[..images],
                "{threads} threads, {images} images"
            );
        }
        let short = model.manifest().scoring_schedule(1, 1.0).unwrap();
        let both = flow.transport_all(&[(&all, &schedule), (&all, &short)]);
        assert_eq!(bits(&both[0]), need, "two legs");
        assert_eq!(bits(&both[1]), bits(&flow.transport(&all, &short)), "two legs");
    }
}

#[test]
fn noise_floors_share_a_group_and_keep_their_own_times() {
    let model = model();
    let one = batch(&model, 1);
    let schedules = [1.0, 0.97, 0.9, 0.7, 0.5];
    let schedules = schedules.map(|t0| model.manifest().scoring_schedule(2, t0).unwrap());
    for threads in [1, 2] {
        let flow = native(&model, InstructionSet::detect().unwrap(), threads);
        let legs: Vec<_> = schedules.iter().map(|schedule| (&one, schedule)).collect();
        let together: Vec<_> = flow.transport_all(&legs).iter().map(bits).collect();
        let alone: Vec<_> = schedules.iter().map(|s| bits(&flow.transport(&one, s))).collect();
        assert_eq!(together, alone, "{threads} threads");
        assert_ne!(together[0], together[1]);
        let sessions = flow.sessions.lock().unwrap();
        assert!(sessions.iter().any(|s| s.images() > 1), "the floors went one by one");
    }
}

#[test]
fn a_plan_can_be_printed_and_keeps_its_promises() {
    let model = model();
    let plan = plan(&model);
    let text = plan.to_string();
    assert_eq!(text.lines().count(), plan.calls.len() + 1, "{text}");
    assert!(text.contains("attention 1x49x128"), "{text}");
    assert!(plan.calls.len() <= 40, "{text}");
    let memory = crate::flow::plan::Memory::new(&plan);
    assert!(memory.values() < plan.buffers.iter().sum::<usize>() / 2, "{memory:?}");
    for call in &plan.calls {
        let (mut read, mut all) = (vec![], vec![]);
        call.clone().each_buffer(&mut |b| all.push(*b));
        if let crate::flow::plan::Call::Convolution(c) = call {
            read.extend([c.input.buffer].into_iter().chain(c.residual.map(|r| r.buffer)));
            assert!(!read.contains(&c.output.buffer), "{call} reads the buffer that it writes");
        }
        let slots: Vec<usize> = all.iter().map(|&b| memory.slot[b]).collect();
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate().skip(i + 1) {
                assert!(a == b || slots[i] != slots[j], "{call}: buffers {a} and {b} share a slot");
            }
        }
    }
}

#[test]
fn a_profile_names_every_kernel() {
    let model = model();
    let flow = native(&model, InstructionSet::detect().unwrap(), 1);
    let schedule = model.manifest().scoring_schedule(1, 1.0).unwrap();
    let profile = flow.profile(&batch(&model, 1), &schedule).unwrap();
    assert_eq!(profile.len(), flow.program.plan.calls.len());
    let multiplications: usize = profile.iter().map(|k| k.multiplications).sum();
    assert_eq!(multiplications, flow.program.plan.multiplications());
    assert!(profile.iter().any(|k| k.kernel.contains("Winograd")));
}

#[test]
fn memory_is_as_planned_before_loading() {
    let model = model();
    let schedule = model.manifest().scoring_schedule(1, 1.0).unwrap();
    for set in InstructionSet::all() {
        for images in [1, 4] {
            let lowered = plan(&model);
            let planned =
                memory::plan(set, &lowered, &Memory::new(&lowered), images, Precision::F32);
            let flow = native(&model, set, 1);
            let _ = flow.transport(&batch(&model, images), &schedule);
            let sessions = flow.sessions.lock().unwrap();
            let [session] = &sessions[..] else { panic!("{} sessions", sessions.len()) };
            let (taken, need) = (session.bytes(), planned.session);
            // Allocations are rounded up to lines, and rows are shared by formulas.
            assert!(taken <= need + 4096 && need <= taken + taken / 8, "{set}: {taken} of {need}");
        }
    }
}

#[test]
fn weights_are_there_once_and_sessions_are_used_again() {
    let model = model();
    let flow = native(&model, InstructionSet::detect().unwrap(), 2);
    let schedule = model.manifest().scoring_schedule(1, 1.0).unwrap();
    let all = batch(&model, 16);
    for _ in 0..3 {
        let _ = flow.transport(&all, &schedule);
    }
    let sessions = flow.sessions.lock().unwrap();
    // As many as images were in work at the same time, and none holds the scratch of two threads.
    assert!((1..=2).contains(&sessions.len()), "{} sessions", sessions.len());
    let planned = flow.memory_plan(4).unwrap();
    for session in &*sessions {
        assert!(session.bytes() <= planned.session + 4096, "{} bytes", session.bytes());
    }
    let left: usize = flow.program.constants.iter().map(|c| 4 * c.len()).sum();
    assert!(left < planned.weights / 50, "{left} bytes of constants beside the packed weights");
}
