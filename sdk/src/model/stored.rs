//! Large constants of a model file: kept as parts of the file, which has pages of its own. A parser would copy them to
//! the heap, and the heap of a process may keep for good what was freed.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;

use super::onnx::pb::TensorProto;

/// Shorter ones are parsed like everything else.
const LARGE: usize = 4 << 10;

/// Raw bytes by the name of their tensor.
#[derive(Debug, Default)]
pub(super) struct Stored(HashMap<String, Bytes>);

impl Stored {
    /// `bytes` of the `tensors` in their order.
    pub(super) fn new(tensors: &[TensorProto], bytes: Vec<Option<Bytes>>) -> Self {
        let named = tensors.iter().zip(bytes);
        Self(named.filter_map(|(tensor, bytes)| Some((tensor.name.clone(), bytes?))).collect())
    }

    /// The bytes of the tensor `name`, if they are not in it.
    pub(super) fn get(&self, name: &str) -> Option<&Bytes> {
        self.0.get(name)
    }

    /// Copies to `tensor` what it lacks.
    pub(super) fn restore(&self, tensor: &mut TensorProto) {
        if let Some(bytes) = self.get(&tensor.name) {
            tensor.raw_data = bytes.to_vec();
        }
    }
}

/// Numbers of the fields that lead there, in onnx.proto.
const GRAPH: u64 = 7;
const INITIALIZER: u64 = 5;
const RAW_DATA: u64 = 9;

/// A model in the wire format of Protocol Buffers without the large `raw_data` of its initializers, and these, one entry
/// per initializer. `None` for what is no such message; a parser says why.
pub(super) fn split(message: &Bytes) -> Option<(Vec<u8>, Vec<Option<Bytes>>)> {
    let mut large = Vec::new();
    let mut graph = |graph: &[u8]| {
        rewritten(graph, |field, tensor| {
            if field != INITIALIZER {
                return Some(Fate::Keep);
            }
            // Of a field that is there twice, the last counts.
            let mut raw = None;
            let tensor = rewritten(tensor, |field, value| {
                if field == RAW_DATA {
                    raw = (value.len() >= LARGE).then(|| message.slice_ref(value));
                }
                Some(if field == RAW_DATA && raw.is_some() { Fate::Drop } else { Fate::Keep })
            })?;
            large.push(raw);
            Some(Fate::Replace(tensor))
        })
    };
    let rest = rewritten(message, |field, value| match field {
        GRAPH => graph(value).map(Fate::Replace),
        _ => Some(Fate::Keep),
    })?;
    Some((rest, large))
}

/// What becomes of a field.
enum Fate {
    Keep,
    Drop,
    Replace(Vec<u8>),
}

/// `message` with what `fate` makes of its fields of bytes, texts and messages.
fn rewritten(message: &[u8], mut fate: impl FnMut(u64, &[u8]) -> Option<Fate>) -> Option<Vec<u8>> {
    let mut to = Vec::new();
    let mut at = 0;
    while at < message.len() {
        let start = at;
        let key = varint(message, &mut at)?;
        let value = match key & 7 {
            0 => varint(message, &mut at).map(|_| None)?,
            1 => skip(message, &mut at, 8).map(|_| None)?,
            5 => skip(message, &mut at, 4).map(|_| None)?,
            2 => {
                let length = varint(message, &mut at)?;
                Some(skip(message, &mut at, length)?)
            }
            _ => return None,
        };
        match value.map_or(Some(Fate::Keep), |value| fate(key >> 3, &message[value]))? {
            Fate::Keep => to.extend_from_slice(&message[start..at]),
            Fate::Drop => {}
            Fate::Replace(value) => put(key >> 3, &value, &mut to),
        }
    }
    Some(to)
}

fn varint(message: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let byte = *message.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Appends a field of bytes.
fn put(field: u64, value: &[u8], to: &mut Vec<u8>) {
    put_varint(field << 3 | 2, to);
    put_varint(value.len() as u64, to);
    to.extend_from_slice(value);
}

fn put_varint(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn skip(message: &[u8], at: &mut usize, length: u64) -> Option<Range<usize>> {
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    let passed = *at..end;
    *at = end;
    (end <= message.len()).then_some(passed)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::onnx::pb::{GraphProto, ModelProto};
    use super::*;

    fn tensor(name: &str, n: usize) -> TensorProto {
        TensorProto {
            name: name.into(),
            dims: vec![n as i64, -1],
            float_data: vec![1.5; 3],
            raw_data: (0..n).map(|i| (i * 7) as u8).collect(),
            ..TensorProto::default()
        }
    }

    fn model(tensors: &[TensorProto]) -> ModelProto {
        let graph = GraphProto {
            name: "g".repeat(300),
            initializer: tensors.to_vec(),
            ..GraphProto::default()
        };
        ModelProto { ir_version: 1 << 40, graph: Some(graph), ..ModelProto::default() }
    }

    #[test]
    fn large_bytes_are_parts_of_the_file_and_come_back() {
        let tensors = [tensor("a", LARGE), tensor("b", LARGE - 1), tensor("c", 3 * LARGE + 1)];
        let whole = model(&tensors);
        let file = Bytes::from(whole.encode_to_vec());
        let (rest, large) = split(&file).unwrap();
        assert!(rest.len() < 2 * LARGE, "{}", rest.len());
        let mut light = ModelProto::decode(&rest[..]).unwrap();
        let graph = light.graph.as_mut().unwrap();
        assert_eq!(
            graph.initializer.iter().map(|t| t.raw_data.len()).collect::<Vec<_>>(),
            [0, LARGE - 1, 0]
        );
        let stored = Stored::new(&graph.initializer, large);
        let part = stored.get("c").unwrap();
        assert_eq!(part, &tensors[2].raw_data);
        assert!(file.as_ptr_range().contains(&part.as_ptr()), "not a copy");
        assert_eq!(stored.get("b"), None);
        graph.initializer.iter_mut().for_each(|tensor| stored.restore(tensor));
        assert_eq!(light, whole);
    }

    #[test]
    fn of_bytes_that_are_there_twice_the_last_count() {
        for sizes in [[LARGE, 5], [5, LARGE], [LARGE, 2 * LARGE]] {
            let twice = sizes.map(|n| tensor("t", n).encode_to_vec()).concat();
            let need = TensorProto::decode(&twice[..]).unwrap();
            let [mut graph, mut file] = [vec![], vec![]];
            put(INITIALIZER, &twice, &mut graph);
            put(GRAPH, &graph, &mut file);
            let (rest, large) = split(&file.into()).unwrap();
            let mut light = ModelProto::decode(&rest[..]).unwrap().graph.unwrap();
            let stored = Stored::new(&light.initializer, large);
            // A small one after a large one stays in the tensor, and the large one is none.
            let last = &mut light.initializer[0];
            stored.restore(last);
            assert_eq!(last, &need, "{sizes:?}");
        }
    }

    #[test]
    fn what_is_no_message_is_left_to_the_parser() {
        let whole = model(&[tensor("a", LARGE)]).encode_to_vec();
        for end in (0..400).chain(whole.len() - 40..whole.len()) {
            let cut = Bytes::copy_from_slice(&whole[..end]);
            let parses = ModelProto::decode(cut.clone()).is_ok();
            assert_eq!(split(&cut).is_some(), parses, "{end} bytes");
        }
        for broken in [
            &[0x3b][..],
            &[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            &[0x80; 11],
        ] {
            assert!(split(&Bytes::copy_from_slice(broken)).is_none(), "{broken:x?}");
        }
    }
}
