// Functions that formulas name.

fn silu(x: f32) -> f32 {
    return x / (1.0 + exp(-x));
}

fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(-x));
}

// By exp, whose error Vulkan bounds; that of its own tanh is not.
fn tangent(x: f32) -> f32 {
    if abs(x) < 0.1 {
        let square = x * x;
        return x * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0 - square * (17.0 / 315.0))));
    }
    return sign(x) * (1.0 - 2.0 / (exp(2.0 * abs(x)) + 1.0));
}

// Abramowitz and Stegun 7.1.26, error below 2e-7; the series near 0, where the former cancels.
fn error_function(x: f32) -> f32 {
    let a = abs(x);
    if a < 0.1 {
        let square = x * x;
        return 1.128379167 * x * (1.0 - square * (1.0 / 3.0 - square * (0.1 - square / 42.0)));
    }
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - sum * exp(-a * a));
}

fn power(base: f32, exponent: f32) -> f32 {
    if exponent == 2.0 {
        return base * base;
    }
    let whole = floor(exponent) == exponent;
    if base >= 0.0 || !whole {
        return pow(base, exponent);
    }
    let odd = floor(exponent * 0.5) * 2.0 != exponent;
    return select(1.0, -1.0, odd) * pow(-base, exponent);
}
