//! Odd values.

use crate::gguf_edit::{Value, ARRAY, BOOL, F32, F64, I16, I32, I64, I8, STR, U16, U32, U64, U8};

/// Values of every type, most of them at an end of what it holds.
pub fn odd_values() -> Vec<(String, Value)> {
    let mut values = Vec::new();
    let mut add = |name: String, value: Value| values.push((name, value));
    for n in [0, 1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 512, 513, 1 << 20, i32::MAX as u32, 1 << 31, u32::MAX] {
        add(format!("u32 {n}"), Value::u32(n));
    }
    for n in [0, 1, -1, 8, i32::MIN, i32::MAX] {
        add(format!("i32 {n}"), Value::i32(n));
    }
    for x in [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        8.0,
        1e-45,
        1e-30,
        1e30,
        f32::MAX,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ] {
        add(format!("f32 {x}"), Value::f32(x));
    }
    for (ty, name) in [(U8, "u8"), (I8, "i8")] {
        [0, 1, 8, 128, 255].iter().for_each(|&n| add(format!("{name} {n}"), Value::new(ty, [n])));
    }
    for (ty, name) in [(U16, "u16"), (I16, "i16")] {
        [0, 1, 8, u16::MAX]
            .iter()
            .for_each(|n: &u16| add(format!("{name} {n}"), Value::new(ty, n.to_le_bytes())));
    }
    for (ty, name) in [(U64, "u64"), (I64, "i64")] {
        [0, 8, u64::MAX]
            .iter()
            .for_each(|n: &u64| add(format!("{name} {n}"), Value::new(ty, n.to_le_bytes())));
    }
    [0.0, 1.0, f64::NAN].iter().for_each(|x: &f64| add(format!("f64 {x}"), Value::new(F64, x.to_le_bytes())));
    [0, 1, 2, 255].iter().for_each(|&b| add(format!("bool {b}"), Value::new(BOOL, [b])));
    let long = "x".repeat(5000);
    for text in
        ["", " ", "x", "llama", "default", "8", "a\0b", "a\nerror: b\x1b[31m", "{{ x }}", "\u{202e}ü", &long]
    {
        add(format!("str {:.12}", text.escape_debug().to_string()), Value::str(text));
    }
    add("str of no UTF-8".into(), Value::str([0xff, 0xfe, 0x80]));
    for (ty, name, element) in [
        (U8, "u8", &[8u8][..]),
        (BOOL, "bool", &[1]),
        (U32, "u32", &[8, 0, 0, 0]),
        (I32, "i32", &[0xff; 4]),
        (F32, "f32", &[0, 0, 0xc0, 0x7f]),
        (U64, "u64", &[0xff; 8]),
        (STR, "str", &[0; 8]),
    ] {
        for n in [0, 1, 2, 5, 512] {
            add(format!("{n} × {name}"), Value::array(ty, vec![element; n]));
        }
    }
    add("array of arrays".into(), Value::new(ARRAY, [9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]));
    add(
        "array beyond the end".into(),
        Value::new(ARRAY, [4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
    );
    add("unknown type".into(), Value::new(13, []));
    values
}
