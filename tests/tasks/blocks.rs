//! The code of an answer.

use llama_svf::reward::code::without_fences;

#[test]
fn code_comes_out_of_its_fence() {
    assert_eq!(without_fences("x = 1"), "x = 1");
    assert_eq!(without_fences("Here:\n```python\nx = 1\n```\nDone."), "x = 1\n");
    assert_eq!(without_fences("```\nx = 1"), "x = 1");
    assert_eq!(without_fences("    return x\n```"), "    return x\n");
    assert_eq!(without_fences("```\na\n```\n```py\nb\n```"), "b\n");
}
