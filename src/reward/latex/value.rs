//! The value of an expression at a point: exact where rational numbers suffice, in floating point elsewhere.
//!
//! Principal values of complex numbers, except that odd roots of negative numbers are the real ones, as at
//! school. `\log` without a base is to the base 10, and degrees matter to trigonometric functions only.

use num_bigint::{BigInt, Sign};
use num_complex::{Complex, Complex64};
use num_rational::BigRational;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};

use super::expression::Expr;
use super::words::Function;

/// A number, real or complex.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value {
    Exact(Complex<BigRational>),
    Near(Complex64),
}

impl Value {
    pub(super) fn real(value: BigRational) -> Self {
        Self::Exact(Complex::new(value, BigRational::zero()))
    }

    /// The exact real number it is.
    pub(super) fn as_rational(&self) -> Option<&BigRational> {
        match self {
            Self::Exact(value) if value.im.is_zero() => Some(&value.re),
            _ => None,
        }
    }

    pub(super) fn near(&self) -> Complex64 {
        match self {
            Self::Exact(value) => Complex64::new(to_f64(&value.re), to_f64(&value.im)),
            Self::Near(value) => *value,
        }
    }

    fn is_zero(&self) -> bool {
        match self {
            Self::Exact(value) => value.is_zero(),
            Self::Near(value) => value.is_zero(),
        }
    }
}

fn to_f64(value: &BigRational) -> f64 {
    value.to_f64().unwrap_or(f64::NAN)
}

/// There is no value, or none within the limits.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Undefined;

type Result<T> = std::result::Result<T, Undefined>;

/// Exact numbers of more bits become floating point.
const MAX_BITS: u64 = 1 << 15;
/// Largest number of which a factorial is computed.
const MAX_FACTORIAL: u32 = 2500;
const MAX_DEGREE: u32 = 64;

/// What all evaluations of one comparison may cost, so that no answer takes long.
#[derive(Debug)]
pub(super) struct Work(u64);

impl Work {
    pub(super) fn new() -> Self {
        const LIMIT: u64 = 400_000;
        Self(LIMIT)
    }

    pub(super) fn spend(&mut self, amount: u64) -> Result<()> {
        self.0 = self.0.checked_sub(amount).ok_or(Undefined)?;
        Ok(())
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0 == 0
    }

    /// Nothing more is computed.
    fn exhaust(&mut self) -> Undefined {
        self.0 = 0;
        Undefined
    }
}

/// One evaluation.
pub(super) struct Evaluation<'a> {
    /// The value of each variable.
    pub(super) point: &'a dyn Fn(&str) -> BigRational,
    pub(super) work: &'a mut Work,
    /// Whether a root or a logarithm had to leave the real numbers.
    pub(super) left_reals: bool,
}

impl Evaluation<'_> {
    pub(super) fn value(&mut self, expr: &Expr) -> Result<Value> {
        self.evaluate(expr, false)
    }

    /// `radians`: whether degrees are to become radians, as inside of a trigonometric function.
    fn evaluate(&mut self, expr: &Expr, radians: bool) -> Result<Value> {
        if self.work.spend(1).is_err() {
            return Err(self.work.exhaust());
        }
        let value = match expr {
            Expr::Number(value) | Expr::Mixed(value, _) => Value::real(value.clone()),
            Expr::Letter(name) => self.letter(name),
            Expr::Negative(a) => match self.evaluate(a, radians)? {
                Value::Exact(a) => Value::Exact(-a),
                Value::Near(a) => Value::Near(-a),
            },
            Expr::Sum(a, b) => self.arithmetic(|a, b| Ok(a + b), |a, b| a + b, a, b, radians)?,
            Expr::Product(a, b) => self.arithmetic(|a, b| Ok(product(a, b)), |a, b| a * b, a, b, radians)?,
            Expr::Quotient(a, b) => self.arithmetic(quotient, |a, b| a / b, a, b, radians)?,
            Expr::Power(a, b) => {
                let (base, power) = (self.evaluate(a, radians)?, self.evaluate(b, false)?);
                self.power(base, power)?
            }
            Expr::Root(degree, a) => {
                let degree = self.evaluate(degree, false)?;
                let degree =
                    degree.as_rational().filter(|degree| degree.is_integer() && degree.is_positive());
                let power = Value::real(degree.ok_or(Undefined)?.recip());
                let radicand = self.evaluate(a, radians)?;
                self.power(radicand, power)?
            }
            Expr::Apply(function, a) => self.apply(*function, a)?,
            Expr::Log(base, a) => {
                let (base, a) = (self.logarithm(base)?, self.logarithm(a)?);
                Value::Near(a / base)
            }
            Expr::Absolute(a) => match self.evaluate(a, radians)? {
                Value::Exact(value) if value.im.is_zero() => Value::real(value.re.abs()),
                other => Value::Near(other.near().norm().into()),
            },
            Expr::Floor(a) => self.rounded(a, |a| a.floor(), f64::floor)?,
            Expr::Ceiling(a) => self.rounded(a, |a| a.ceil(), f64::ceil)?,
            Expr::Factorial(a) => {
                let a = self.evaluate(a, false)?;
                self.factorial(&a)?
            }
            Expr::Binomial(n, k) => {
                let (n, k) = (self.evaluate(n, false)?, self.evaluate(k, false)?);
                self.binomial(n, &k)?
            }
            Expr::Degrees(a) => match self.evaluate(a, radians)? {
                a if radians => Value::Near(a.near().scale(std::f64::consts::PI / 180.0)),
                a => a,
            },
            Expr::Unknown(name, a) => {
                let a = self.evaluate(a, false)?;
                unknown(name, &a)
            }
        };
        self.limited(value)
    }

    /// The value within the limits of size.
    fn limited(&mut self, value: Value) -> Result<Value> {
        let value = match value {
            Value::Exact(exact) => {
                let parts = [exact.re.numer(), exact.re.denom(), exact.im.numer(), exact.im.denom()];
                let bits = parts.iter().map(|part| part.bits()).max().unwrap_or_default();
                // Reducing a fraction takes the square of its length.
                let words = bits / 64;
                if self.work.spend(words * words / 8).is_err() {
                    return Err(self.work.exhaust());
                }
                if bits <= MAX_BITS {
                    return Ok(Value::Exact(exact));
                }
                Value::Exact(exact).near()
            }
            Value::Near(near) => near,
        };
        if value.is_finite() {
            Ok(Value::Near(value))
        } else {
            Err(Undefined)
        }
    }

    fn letter(&self, name: &str) -> Value {
        match name {
            "i" => Value::Exact(Complex::new(BigRational::zero(), BigRational::one())),
            "e" => Value::Near(std::f64::consts::E.into()),
            "pi" => Value::Near(std::f64::consts::PI.into()),
            _ => Value::real((self.point)(name)),
        }
    }

    fn arithmetic(
        &mut self,
        exact: impl Fn(Complex<BigRational>, Complex<BigRational>) -> Result<Complex<BigRational>>,
        near: impl Fn(Complex64, Complex64) -> Complex64,
        a: &Expr,
        b: &Expr,
        radians: bool,
    ) -> Result<Value> {
        Ok(match (self.evaluate(a, radians)?, self.evaluate(b, radians)?) {
            (Value::Exact(a), Value::Exact(b)) => Value::Exact(exact(a, b)?),
            (a, b) => Value::Near(near(a.near(), b.near())),
        })
    }

    fn power(&mut self, base: Value, power: Value) -> Result<Value> {
        if base.is_zero() {
            let positive = power.near().re > 0.0;
            return if positive { Ok(Value::real(BigRational::zero())) } else { Err(Undefined) };
        }
        if let Some(power) = power.as_rational() {
            let (numerator, denominator) = (power.numer().to_i32(), power.denom().to_u32());
            if let (Some(numerator), Some(denominator @ 1..=MAX_DEGREE)) = (numerator, denominator) {
                let root = if denominator == 1 { base } else { self.root(base, denominator) };
                return Ok(integer_power(root, numerator));
            }
        }
        let base = base.near();
        if base.re < 0.0 && base.im == 0.0 {
            self.left_reals = true;
        }
        Ok(Value::Near((base.ln() * power.near()).exp()))
    }

    /// The root of degree `degree`, at least 2.
    fn root(&mut self, base: Value, degree: u32) -> Value {
        let negative = base.near().re < 0.0 && base.near().im == 0.0;
        let odd = degree % 2 == 1;
        if let Some(value) = base.as_rational() {
            let exact = |value: &BigInt| {
                let root = value.nth_root(degree);
                (&Pow::pow(&root, degree) == value).then_some(root)
            };
            let size = value.abs();
            if let (Some(above), Some(below)) = (exact(size.numer()), exact(size.denom())) {
                let root = BigRational::new(above, below);
                if !negative {
                    return Value::real(root);
                }
                if odd {
                    return Value::real(-root);
                }
                if degree == 2 {
                    self.left_reals = true;
                    return Value::Exact(Complex::new(BigRational::zero(), root));
                }
            }
        }
        let near = base.near();
        if negative && odd {
            return Value::Near((-(-near.re).powf(1.0 / f64::from(degree))).into());
        }
        self.left_reals |= negative;
        Value::Near(if near.im == 0.0 && near.re >= 0.0 {
            near.re.powf(1.0 / f64::from(degree)).into()
        } else {
            near.powf(1.0 / f64::from(degree))
        })
    }

    fn logarithm(&mut self, a: &Expr) -> Result<Complex64> {
        let a = self.evaluate(a, false)?;
        if a.is_zero() {
            return Err(Undefined);
        }
        let near = a.near();
        self.left_reals |= near.im == 0.0 && near.re < 0.0;
        Ok(near.ln())
    }

    fn apply(&mut self, function: Function, argument: &Expr) -> Result<Value> {
        use Function as F;
        let logarithm = |base: f64, a: Complex64| Ok(Value::Near(a / base.ln()));
        match function {
            F::Ln => return self.logarithm(argument).map(Value::Near),
            F::Log | F::Lg => return self.logarithm(argument).and_then(|a| logarithm(10.0, a)),
            _ => {}
        }
        let trigonometric = matches!(function, F::Sin | F::Cos | F::Tan | F::Cot | F::Sec | F::Csc);
        let a = self.evaluate(argument, trigonometric)?.near();
        // Closer to a pole than this, digits are lost.
        let pole = |a: Complex64| if a.norm() < 1e-6 { Err(Undefined) } else { Ok(a) };
        if matches!(function, F::Arcsin | F::Arccos) && a.im == 0.0 && a.re.abs() > 1.0 {
            self.left_reals = true;
        }
        Ok(Value::Near(match function {
            F::Sin => a.sin(),
            F::Cos => a.cos(),
            F::Tan => a.sin() / pole(a.cos())?,
            F::Cot => a.cos() / pole(a.sin())?,
            F::Sec => pole(a.cos())?.inv(),
            F::Csc => pole(a.sin())?.inv(),
            F::Arcsin => a.asin(),
            F::Arccos => a.acos(),
            F::Arctan => a.atan(),
            F::Sinh => a.sinh(),
            F::Cosh => a.cosh(),
            F::Tanh => a.tanh(),
            F::Exp => a.exp(),
            F::Ln | F::Log | F::Lg => return Err(Undefined),
        }))
    }

    fn rounded(
        &mut self,
        a: &Expr,
        exact: impl Fn(&BigRational) -> BigRational,
        near: impl Fn(f64) -> f64,
    ) -> Result<Value> {
        match self.evaluate(a, false)? {
            Value::Exact(value) if value.im.is_zero() => Ok(Value::real(exact(&value.re))),
            Value::Near(value) if value.im.abs() < 1e-9 => Ok(Value::Near(near(value.re).into())),
            _ => Err(Undefined),
        }
    }

    fn factorial(&mut self, a: &Value) -> Result<Value> {
        if let Some(n) = a.as_rational().filter(|a| a.is_integer()) {
            let n = n.to_integer().to_u32().filter(|n| *n <= MAX_FACTORIAL).ok_or(Undefined)?;
            self.work.spend(u64::from(n)).map_err(|_| self.work.exhaust())?;
            let product = (1..=n).fold(BigInt::one(), |product, factor| product * factor);
            return Ok(Value::real(product.into()));
        }
        gamma(a.near() + 1.0).map(Value::Near)
    }

    fn binomial(&mut self, n: Value, k: &Value) -> Result<Value> {
        /// Products of more factors are computed for whole numbers only.
        const MAX_FACTORS: u32 = 64;
        let Some(k) = k.as_rational().filter(|k| k.is_integer()) else {
            let (n, k) = (n.near(), k.near());
            return Ok(Value::Near(gamma(n + 1.0)? / gamma(k + 1.0)? / gamma(n - k + 1.0)?));
        };
        let k = k.to_integer().to_u32().filter(|k| *k <= MAX_FACTORIAL).ok_or(Undefined)?;
        self.work.spend(u64::from(k)).map_err(|_| self.work.exhaust())?;
        if let Some(n) = n.as_rational().filter(|n| n.is_integer()) {
            let n = n.to_integer();
            if n.bits().saturating_mul(k.into()) > MAX_BITS {
                return Err(Undefined);
            }
            let falling = (0..k).fold(BigInt::one(), |product, down| product * (&n - down));
            let factorial = (1..=k).fold(BigInt::one(), |product, factor| product * factor);
            return Ok(Value::real((falling / factorial).into()));
        }
        if k > MAX_FACTORS {
            return Err(Undefined);
        }
        let mut binomial = Value::real(BigRational::one());
        for down in 0..k {
            let (down, up) =
                (BigRational::from_integer(down.into()), BigRational::from_integer((down + 1).into()));
            let next = match (binomial, &n) {
                (Value::Exact(binomial), Value::Exact(n)) => {
                    Value::Exact(product(binomial, (n - Complex::from(down)).unscale(up)))
                }
                (binomial, n) => Value::Near(binomial.near() * (n.near() - to_f64(&down)) / to_f64(&up)),
            };
            binomial = self.limited(next)?;
        }
        Ok(binomial)
    }
}

/// Complex numbers that are real, as most are, take one product instead of four.
fn product(a: Complex<BigRational>, b: Complex<BigRational>) -> Complex<BigRational> {
    if a.im.is_zero() {
        b.scale(a.re)
    } else if b.im.is_zero() {
        a.scale(b.re)
    } else {
        a * b
    }
}

fn quotient(a: Complex<BigRational>, b: Complex<BigRational>) -> Result<Complex<BigRational>> {
    if b.is_zero() {
        Err(Undefined)
    } else if b.im.is_zero() {
        Ok(a.unscale(b.re))
    } else {
        Ok(a / b)
    }
}

/// `base` is not 0.
fn integer_power(base: Value, power: i32) -> Value {
    if let Value::Exact(exact) = &base {
        let parts = [exact.re.numer(), exact.re.denom(), exact.im.numer(), exact.im.denom()];
        let bits = parts.iter().map(|part| part.bits()).max().unwrap_or_default();
        if bits.saturating_mul(power.unsigned_abs().into()) <= MAX_BITS {
            return match base.as_rational() {
                Some(real) => Value::real(Pow::pow(real.clone(), power)),
                None => Value::Exact(exact.powi(power)),
            };
        }
    }
    Value::Near(base.near().powi(power))
}

/// Euler's gamma function on the real numbers.
fn gamma(a: Complex64) -> Result<Complex64> {
    if a.im != 0.0 {
        return Err(Undefined);
    }
    Ok(libm::tgamma(a.re).into())
}

/// Some value that depends on the name of the function and on its argument, and on nothing else.
fn unknown(name: &str, argument: &Value) -> Value {
    // Nine digits, so that different ways to compute the argument agree.
    let near = argument.near();
    let hash = blake3::hash(format!("{name} {:.8e} {:.8e}", near.re + 0.0, near.im + 0.0).as_bytes());
    let bytes = &hash.as_bytes()[..3];
    Value::real(BigRational::new(BigInt::from_bytes_le(Sign::Plus, bytes) + 1, BigInt::from((1 << 20) + 1)))
}
