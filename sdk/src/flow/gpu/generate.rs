//! WGSL text of what differs from call to call: where values lie, and formulas.

use std::fmt::Write as _;

use crate::flow::plan::{Binary, Factor, Instruction, Source, Strided, Unary, View};

use super::layout::Layout;

/// Text of a view's element: `name` is the variable of its buffer, `index` an expression in values.
fn element(layout: &Layout, source: Source, name: &str, index: &str) -> Result<String, String> {
    Ok(match source {
        Source::Buffer(buffer) => {
            format!("f32({name}[image * {}u + {index}])", layout.stride(buffer))
        }
        Source::Constant(constant) => {
            let at = layout.constants.get(constant).copied().flatten();
            let at = at.ok_or_else(|| format!("constant {constant} is kept as weights"))?;
            format!("constants[{at}u + {index}]")
        }
        Source::Table(table) => {
            let (at, _) = *layout.tables.get(table).ok_or_else(|| format!("no table {table}"))?;
            format!("tables[leg_start(image) + {at}u + {index}]")
        }
    })
}

/// `offset + Σ digit * stride`, where the digits are those of `i` in the mixed base of `dims`.
fn place(offset: usize, dims: &[usize], strides: &[usize]) -> String {
    let mut text = format!("{offset}u");
    let mut inner = 1;
    for (axis, (&dim, &stride)) in dims.iter().zip(strides).enumerate().rev() {
        if dim > 1 && stride > 0 {
            text += &format!(" + {} * {stride}u", digit("i", inner, (axis > 0).then_some(dim)));
        }
        inner *= dim;
    }
    text
}

/// `variable / inner % size`, without what does nothing.
fn digit(variable: &str, inner: usize, size: Option<usize>) -> String {
    let divided = if inner > 1 { format!("{variable} / {inner}u") } else { variable.to_owned() };
    match size {
        Some(size) => format!("({divided} % {size}u)"),
        None => format!("({divided})"),
    }
}

/// `fn NAME(image, i) -> f32`: value i of `view`, row-major over `dims`.
pub(super) fn reader(
    layout: &Layout,
    name: &str,
    variable: &str,
    view: &Strided,
    dims: &[usize],
) -> Result<String, String> {
    let index = place(view.offset, dims, &view.strides);
    let value = element(layout, view.source, variable, &format!("({index})"))?;
    Ok(format!("fn {name}(image: u32, i: u32) -> f32 {{\n    return {value};\n}}\n"))
}

/// `fn NAME(image, i, value)`: writes value i of `view`, row-major over `dims`, to `variable`.
pub(super) fn writer(
    layout: &Layout,
    name: &str,
    variable: &str,
    view: &Strided,
    dims: &[usize],
) -> Result<String, String> {
    let Source::Buffer(buffer) = view.source else {
        return Err(format!("it writes to {}", view.source));
    };
    let (stride, index) = (layout.stride(buffer), place(view.offset, dims, &view.strides));
    let element = layout.element(buffer);
    Ok(format!(
        "fn {name}(image: u32, i: u32, value: f32) {{\n    \
         {variable}[image * {stride}u + ({index})] = {element}(value);\n}}\n"
    ))
}

/// Place of a pixel's value c in a view with axes [1, C, H, W], or of a single value.
fn pixel_place(view: &View) -> String {
    let mut index = format!("{}u", view.offset);
    let axes = view.axes.get(1..).unwrap_or_default();
    for (axis, variable) in axes.iter().zip(["c", "y", "x"]) {
        let mut inner = 1;
        for (i, &Factor { size, stride }) in axis.iter().enumerate().rev() {
            let digit = digit(variable, inner, (i > 0).then_some(size));
            let _ = write!(index, " + {digit} * {stride}u");
            inner *= size;
        }
    }
    index
}

/// `fn NAME(image, c, y, x) -> f32` of a view with axes [1, C, H, W], or of a single value.
pub(super) fn pixel_reader(
    layout: &Layout,
    name: &str,
    variable: &str,
    view: &View,
) -> Result<String, String> {
    let value = element(layout, view.source, variable, &format!("({})", pixel_place(view)))?;
    Ok(format!(
        "fn {name}(image: u32, c: u32, y: u32, x: u32) -> f32 {{\n    return {value};\n}}\n"
    ))
}

/// The same of a view whose values are those of `formula`, the first of them at `first`.
pub(super) fn pixel_formula(name: &str, formula: &str, first: usize, view: &View) -> String {
    let place = pixel_place(view);
    format!(
        "fn {name}(image: u32, c: u32, y: u32, x: u32) -> f32 {{\n    \
         return {formula}(image, ({place}) - {first}u);\n}}\n"
    )
}

/// `fn NAME(image, i) -> f32`, which reads its inputs by `NAME_input_0(image, i)` and so on.
pub(super) fn formula(name: &str, instructions: &[Instruction]) -> String {
    let mut text = format!("fn {name}(image: u32, i: u32) -> f32 {{\n");
    for (i, instruction) in instructions.iter().enumerate() {
        let value = match *instruction {
            Instruction::Input(n) => format!("{name}_input_{n}(image, i)"),
            Instruction::Number(value) => number(value),
            Instruction::Unary(function, a) => unary(function, &format!("v{a}")),
            Instruction::Binary(function, a, b) => {
                binary(function, &format!("v{a}"), &format!("v{b}"))
            }
            Instruction::Select(a, b, c) => format!("select(v{c}, v{b}, v{a} != 0.0)"),
        };
        let _ = writeln!(text, "    let v{i} = {value};");
    }
    let last = instructions.len().saturating_sub(1);
    let _ = writeln!(text, "    return v{last};\n}}");
    text
}

/// A literal that reads back as the same f32; WGSL has none for what is not finite.
pub(super) fn number(value: f32) -> String {
    if value.is_finite() {
        format!("f32({value:e})")
    } else {
        // Through a variable: WGSL refuses constant expressions that are not finite.
        format!("bitcast<f32>(0u * run.images + {}u)", value.to_bits())
    }
}

fn unary(function: Unary, a: &str) -> String {
    match function {
        Unary::Abs => format!("abs({a})"),
        Unary::Cos => format!("cos({a})"),
        Unary::Erf => format!("error_function({a})"),
        Unary::Exp => format!("exp({a})"),
        Unary::Floor => format!("floor({a})"),
        Unary::Log => format!("log({a})"),
        Unary::Negate => format!("-{a}"),
        Unary::Reciprocal => format!("1.0 / {a}"),
        Unary::Relu => format!("max({a}, 0.0)"),
        Unary::Sigmoid => format!("sigmoid({a})"),
        Unary::Silu => format!("silu({a})"),
        Unary::Sin => format!("sin({a})"),
        Unary::Sqrt => format!("sqrt({a})"),
        Unary::Tanh => format!("tangent({a})"),
    }
}

fn binary(function: Binary, a: &str, b: &str) -> String {
    match function {
        Binary::Add => format!("{a} + {b}"),
        Binary::Divide => format!("{a} / {b}"),
        Binary::Equal => format!("select(0.0, 1.0, {a} == {b})"),
        Binary::Greater => format!("select(0.0, 1.0, {a} > {b})"),
        Binary::Less => format!("select(0.0, 1.0, {a} < {b})"),
        Binary::Maximum => format!("max({a}, {b})"),
        Binary::Minimum => format!("min({a}, {b})"),
        Binary::Multiply => format!("{a} * {b}"),
        Binary::Power => format!("power({a}, {b})"),
        Binary::Subtract => format!("{a} - {b}"),
    }
}
