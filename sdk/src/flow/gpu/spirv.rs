//! WGSL with cooperative matrices → SPIR-V that the Vulkan memory model allows.
//!
//! naga declares that model where it meets such matrices, and then neither says that other threads see an access nor
//! that a barrier makes it visible: a race by the letter of the model, and wrong products on some drivers. What it
//! lacks is added here, and the matrices' modules are loaded as they are.

use std::collections::{HashMap, HashSet};

use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// Words in front of the first instruction; the fourth bounds the identifiers.
const HEADER: usize = 5;
const BOUND: usize = 3;

const MEMORY_MODEL: u32 = 14;
const TYPE_ARRAY: u32 = 28;
const TYPE_RUNTIME_ARRAY: u32 = 29;
const TYPE_STRUCT: u32 = 30;
const TYPE_POINTER: u32 = 32;
const CONSTANT: u32 = 43;
const FUNCTION_PARAMETER: u32 = 55;
const VARIABLE: u32 = 59;
const LOAD: u32 = 61;
const STORE: u32 = 62;
const ACCESS_CHAIN: u32 = 65;
const IN_BOUNDS_ACCESS_CHAIN: u32 = 66;
const DECORATE: u32 = 71;
const CONTROL_BARRIER: u32 = 224;
const MATRIX_LOAD: u32 = 4457;
const MATRIX_STORE: u32 = 4458;

const VULKAN_MODEL: u32 = 3;
const ARRAY_STRIDE: u32 = 6;
/// Storage classes of memory that threads share.
const WORKGROUP: u32 = 4;
const STORAGE: u32 = 12;
/// Storage classes whose types have no layout.
const WITHOUT_LAYOUT: [u32; 3] = [WORKGROUP, 6, 7];
const NON_PRIVATE: u32 = 0x20;
const AVAILABLE_AND_VISIBLE: u32 = 0x6000;

/// Compiles the entry point `main` of `text`.
///
/// # Errors
/// What naga says.
pub(super) fn compile(text: &str) -> Result<Vec<u32>, String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(text))?;
    let unchecked = BoundsCheckPolicy::Unchecked;
    let mut options = spv::Options {
        lang_version: (1, 6),
        bounds_check_policies: BoundsCheckPolicies {
            index: unchecked,
            buffer: unchecked,
            image_load: unchecked,
            binding_array: unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        ..spv::Options::default()
    };
    options.flags.remove(spv::WriterFlags::DEBUG);
    let stage = spv::PipelineOptions {
        shader_stage: naga::ShaderStage::Compute,
        entry_point: "main".into(),
    };
    let words = spv::write_vec(&module, &info, &options, Some(&stage));
    Ok(corrected(&words.map_err(|e| e.to_string())?))
}

/// The instructions: their code and all their words.
fn instructions(words: &[u32]) -> impl Iterator<Item = (u32, &[u32])> {
    let mut rest = words.get(HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let first = *rest.first()?;
        let (instruction, after) = rest.split_at_checked((first >> 16).max(1) as usize)?;
        rest = after;
        Some((first & 0xffff, instruction))
    })
}

/// Of an instruction that accesses memory: where its pointer is, and where what is known of the access comes.
fn access(code: u32) -> Option<(usize, usize)> {
    match code {
        LOAD => Some((3, 4)),
        STORE => Some((1, 3)),
        MATRIX_LOAD => Some((3, 6)),
        MATRIX_STORE => Some((1, 5)),
        _ => None,
    }
}

/// What has to be known of a module before it is changed.
#[derive(Default)]
struct Facts {
    vulkan: bool,
    /// Storage class of pointer types.
    class: HashMap<u32, u32>,
    /// Type of everything that may be a pointer.
    pointer: HashMap<u32, u32>,
    /// Constants that are the semantics of a barrier, and their replacements.
    semantics: HashMap<u32, u32>,
    /// Arrays whose stride has to go.
    strideless: HashSet<u32>,
}

impl Facts {
    fn new(words: &[u32]) -> Self {
        let mut facts = Self::default();
        let mut members: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut arrays = HashSet::new();
        let mut roots = Vec::new();
        let mut next = words[BOUND];
        for (code, i) in instructions(words) {
            match code {
                MEMORY_MODEL => facts.vulkan = i[2] == VULKAN_MODEL,
                TYPE_POINTER => {
                    facts.class.insert(i[1], i[2]);
                    roots.push((i[2], i[3]));
                }
                TYPE_ARRAY | TYPE_RUNTIME_ARRAY => {
                    arrays.insert(i[1]);
                    members.insert(i[1], vec![i[2]]);
                }
                TYPE_STRUCT => {
                    members.insert(i[1], i[2..].to_vec());
                }
                VARIABLE | FUNCTION_PARAMETER | ACCESS_CHAIN | IN_BOUNDS_ACCESS_CHAIN => {
                    facts.pointer.insert(i[2], i[1]);
                }
                CONTROL_BARRIER => {
                    facts.semantics.entry(i[3]).or_insert_with(|| {
                        next += 1;
                        next - 1
                    });
                }
                _ => {}
            }
        }
        let reached = |without_layout: bool| {
            let of = |(class, _): &&(u32, u32)| WITHOUT_LAYOUT.contains(class) == without_layout;
            let mut left: Vec<u32> = roots.iter().filter(of).map(|root| root.1).collect();
            let mut seen = HashSet::new();
            while let Some(one) = left.pop() {
                if seen.insert(one) {
                    left.extend(members.get(&one).into_iter().flatten());
                }
            }
            seen
        };
        facts.strideless = &(&reached(true) - &reached(false)) & &arrays;
        facts
    }

    /// Whether the memory behind `pointer` is shared between threads.
    fn shared(&self, pointer: u32) -> bool {
        let class = self.pointer.get(&pointer).and_then(|of| self.class.get(of));
        class.is_some_and(|class| matches!(*class, WORKGROUP | STORAGE))
    }
}

/// The module with accesses marked as not private, barriers that make them available and visible, and no strides where
/// they are not allowed.
fn corrected(words: &[u32]) -> Vec<u32> {
    let facts = Facts::new(words);
    if !facts.vulkan {
        return words.to_vec();
    }
    let mut all = words[..HEADER].to_vec();
    all[BOUND] += facts.semantics.len() as u32;
    for (code, i) in instructions(words) {
        let stride = code == DECORATE && i[2] == ARRAY_STRIDE;
        if stride && facts.strideless.contains(&i[1]) {
            continue;
        }
        let mut own = i.to_vec();
        if let Some((_, known)) = access(code).filter(|&(pointer, _)| facts.shared(i[pointer])) {
            debug_assert!(own.len() >= known, "naga gives matrices a stride");
            match own.get_mut(known) {
                Some(known) => *known |= NON_PRIVATE,
                None => own.push(NON_PRIVATE),
            }
            own[0] = (own.len() as u32) << 16 | code;
        }
        if code == CONTROL_BARRIER {
            own[3] = facts.semantics[&i[3]];
        }
        all.extend_from_slice(&own);
        if code == CONSTANT
            && let Some(&replacement) = facts.semantics.get(&i[2])
        {
            all.extend([i[0], i[1], replacement, i[3] | AVAILABLE_AND_VISIBLE]);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "enable f16; enable wgpu_cooperative_matrix;
        @group(0) @binding(0) var<storage, read> a: array<f16>;
        @group(0) @binding(1) var<storage, read_write> c: array<f32>;
        var<workgroup> strip: array<f16, 256>;
        @compute @workgroup_size(32) fn main(@builtin(local_invocation_index) t: u32) {
            var own = array<u32, 4>();
            own[t % 4u] = t;
            strip[t] = a[own[t % 4u]];
            workgroupBarrier();
            let x = coopLoadT<coop_mat16x16<f16, A>>(&strip[0], 16u);
            let y = coopLoadT<coop_mat16x16<f16, B>>(&a[0], 16u);
            var sum = coop_mat16x16<f32, C>();
            sum = coopMultiplyAdd(x, y, sum);
            coopStoreT(sum, &c[0], 16u);
        }";

    fn counts(words: &[u32]) -> [usize; 4] {
        let facts = Facts::new(words);
        let mut counts = [0; 4];
        let value: HashMap<u32, u32> = instructions(words)
            .filter(|(code, _)| *code == CONSTANT)
            .map(|(_, i)| (i[2], i[3]))
            .collect();
        for (code, i) in instructions(words) {
            if let Some((pointer, known)) = access(code)
                && facts.shared(i[pointer])
            {
                let marked = i.get(known).is_some_and(|known| known & NON_PRIVATE != 0);
                counts[usize::from(marked)] += 1;
            }
            if code == CONTROL_BARRIER {
                let whole = value[&i[3]] & AVAILABLE_AND_VISIBLE == AVAILABLE_AND_VISIBLE;
                counts[2 + usize::from(whole)] += 1;
            }
        }
        counts
    }

    #[test]
    fn every_shared_access_and_every_barrier_is_marked_once() {
        let words = compile(TEXT).unwrap();
        // A load, a store, three of matrices; one barrier.
        assert_eq!(counts(&words), [0, 5, 0, 1]);
        assert_eq!(instructions(&words).map(|(_, i)| i.len()).sum::<usize>() + HEADER, words.len());
        assert!(!Facts::new(&words).strideless.is_empty());
        let strides = instructions(&words).filter(|(code, i)| {
            let stride = *code == DECORATE && i[2] == ARRAY_STRIDE;
            stride && Facts::new(&words).strideless.contains(&i[1])
        });
        assert_eq!(strides.count(), 0);
        // Once corrected, nothing is left to do but new numbers for the barriers' semantics.
        assert_eq!(counts(&corrected(&words)), counts(&words));
    }

    #[test]
    fn other_memory_models_are_left_alone_and_mistakes_are_said() {
        let plain = "@compute @workgroup_size(1) fn main() {}";
        let words = compile(plain).unwrap();
        assert!(!Facts::new(&words).vulkan);
        assert_eq!(corrected(&words), words);
        assert!(compile("fn main() -> f32 { return 1u; }").is_err());
    }
}
