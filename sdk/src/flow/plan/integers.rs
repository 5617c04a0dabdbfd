//! The few integer operators with which exporters compute shapes.

use super::graph::Node;

/// `Shape`, with its optional range.
pub(super) fn shape(node: &Node<'_>, dims: &[i64]) -> Vec<i64> {
    let rank = dims.len() as i64;
    let at = |v: i64| usize::try_from(if v < 0 { v + rank } else { v }.clamp(0, rank)).unwrap_or(0);
    let (start, end) = (at(node.int("start", 0)), at(node.int("end", rank)));
    dims.get(start..end).unwrap_or_default().to_vec()
}

/// The result of an integer operator on vectors; `None` if it is not one of those that shapes are computed with.
pub(super) fn evaluate(node: &Node<'_>, inputs: &[&[i64]]) -> Option<Vec<i64>> {
    let all = |f: fn(i64, i64) -> Option<i64>| -> Option<Vec<i64>> {
        let (a, b) = (inputs.first()?, inputs.get(1)?);
        let n = a.len().max(b.len());
        let at = |v: &[i64], i: usize| if v.len() == 1 { Some(v[0]) } else { v.get(i).copied() };
        (0..n).map(|i| f(at(a, i)?, at(b, i)?)).collect()
    };
    match node.operator() {
        "Cast" | "Identity" | "Squeeze" | "Unsqueeze" | "Reshape" => Some(inputs.first()?.to_vec()),
        "Concat" => Some(inputs.concat()),
        "Add" => all(i64::checked_add),
        "Sub" => all(i64::checked_sub),
        "Mul" => all(i64::checked_mul),
        "Div" => all(i64::checked_div),
        "Gather" => {
            let (from, at) = (inputs.first()?, inputs.get(1)?);
            let pick = |&i: &i64| {
                from.get(usize::try_from(if i < 0 { i + from.len() as i64 } else { i }).ok()?)
                    .copied()
            };
            at.iter().map(pick).collect()
        }
        "Slice" => {
            let from = inputs.first()?;
            let n = from.len() as i64;
            let at = |v: i64| usize::try_from(if v < 0 { v + n } else { v }.clamp(0, n)).ok();
            let (start, end) = (at(*inputs.get(1)?.first()?)?, at(*inputs.get(2)?.first()?)?);
            let step = inputs.get(4).and_then(|s| s.first()).copied().unwrap_or(1);
            (step == 1).then(|| from.get(start..end).unwrap_or_default().to_vec())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::NodeProto;

    use super::*;

    fn run(operator: &str, inputs: &[&[i64]]) -> Option<Vec<i64>> {
        let proto = NodeProto { op_type: operator.into(), ..NodeProto::default() };
        evaluate(&Node(&proto), inputs)
    }

    #[test]
    fn shapes_are_computed_as_in_onnx() {
        assert_eq!(run("Concat", &[&[1, 2], &[-1]]), Some(vec![1, 2, -1]));
        assert_eq!(run("Gather", &[&[5, 6, 7], &[-1, 0]]), Some(vec![7, 5]));
        assert_eq!(run("Slice", &[&[5, 6, 7], &[1], &[i64::MAX]]), Some(vec![6, 7]));
        assert_eq!(run("Mul", &[&[2, 3], &[4]]), Some(vec![8, 12]));
        assert_eq!(run("Div", &[&[2], &[0]]), None);
        assert_eq!(run("Gather", &[&[5], &[3]]), None);
        assert_eq!(run("Sin", &[&[5]]), None);
    }
}
