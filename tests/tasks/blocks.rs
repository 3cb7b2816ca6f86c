//! The code of an answer: which block runs, and how it goes on from what the task begins.

use std::path::PathBuf;

use llama_svf::reward::code::sandbox::Limits;
use llama_svf::reward::code::{program, without_fences, Code};

#[test]
fn code_comes_out_of_its_fence() {
    assert_eq!(without_fences("x = 1"), "x = 1");
    assert_eq!(without_fences("Here:\n```python\nx = 1\n```\nDone."), "x = 1\n");
    assert_eq!(without_fences("```\nx = 1"), "x = 1");
    assert_eq!(without_fences("    return x\n```"), "    return x\n");
    assert_eq!(without_fences("```\na\n```\n```py\nb\n```"), "b\n");
}

/// Runs the program of each answer; `true` where it has to pass.
fn run(table: &[(&str, bool)], continues: Option<&str>, tests: &str) {
    let launcher = Some(PathBuf::from(env!("CARGO_BIN_EXE_llama-svf")));
    let code = Code::new(launcher, Limits { seconds: 5, ..Limits::default() }).unwrap();
    let mut failures = Vec::new();
    for (answer, passes) in table {
        let program = program(answer, continues, tests);
        let score = code.score(&program, tests).unwrap();
        if score.value != f64::from(u8::from(*passes)) {
            failures.push(format!("{answer}\n-- {} --\n{program}\n", score.reason));
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), table.len(), failures.join("\n=====\n"));
}

const TESTS: &str = "assert double(2) == 4\nassert [double(x) for x in (1, 2)] == [2, 4]";

#[test]
fn the_block_that_defines_what_the_tests_call_runs() {
    let table = [
        // A function, then a demonstration or a text.
        ("```python\ndef double(x):\n    return 2 * x\n```\nUse it:\n```python\nprint(double(undefined))\n```", true),
        ("```python\ndef double(x):\n    return 2 * x\n```\nIt prints\n```\n4\n```", true),
        ("```python\ndef double(x):\n    return 2 * x\n```\nIt prints\n```text\nit's 4\n```", true),
        ("```python\ndef double(x):\n    return 2 * x\n```\n```bash\npip install double\n```", true),
        // simonw/llm#717, modelscope/evalscope#1170: models correct themselves, so the last definition counts.
        ("```python\ndef double(x):\n    return x\n```\nWait.\n```python\ndef double(x):\n    return 2 * x\n```", true),
        ("```python\ndef double(x):\n    return 2 * x\n```\nNo:\n```python\ndef double(x):\n    return x\n```", false),
        (
            "```python\nraise ValueError\ndef double(x): return 1\n```\n```python\ndef double(x):\n    return 2 * x\n```\n\
             ```python\nassert double(3) == 7\n```",
            true,
        ),
        // noonghunna/benchlocal-cli#120, EleutherAI/lm-evaluation-harness#3447: the prompt opened the fence.
        ("def double(x):\n    return 2 * x\n```\nThis function doubles x.", true),
        ("def double(x):\n    return 2 * x\n```", true),
        ("def double(x):\n    return 2 * x\n```\nFor example\n```python\nprint(double(y))\n```\n", true),
        // EleutherAI/lm-evaluation-harness#3769 and #4091: the first word is no language.
        ("import math\n\ndef double(x): return 2 * x\n```\nIt's simple:\n```\n2\n```", true),
        // huggingface/smolagents#1219 and #2652: fences in strings are code.
        ("```python\ndef double(x):\n    \"\"\"\n    ```\n    double(1)\n    ```\n    \"\"\"\n    return 2 * x\n```\nDone.", true),
        ("def double(x):\n    '''\n    ```python\n    double(1)\n    ```\n    '''\n    return 2 * x\n", true),
        ("```python\ndef double(x):\n    fence = '```'\n    return 2 * x  # not ```\n```\n", true),
        ("```python\ndef double(x):\n    return 2 * x\n\nprint(\"\"\"\n```\n\"\"\")\n```\n```\n'''\n```", true),
        // A string that never ends does not hide the fence's end.
        ("```python\ndef double(x):\n    return 2 * x\n```\nIt is \"\"\"doubling\n```python\ndouble(z)\n```", true),
        // Indented fences, as in lists (nesquena/hermes-webui#1438).
        ("1. First:\n   ```python\n   def double(x):\n       return 2 * x\n   ```\n2. Then use it.", true),
        ("- So:\n\n\t```python\n\tdef double(x):\n\t\treturn 2 * x\n\t```\n", true),
        ("    ```python\n    def double(x):\n        return 2 * x\n    ```", true),
        ("```python\n    def double(x):\n        return 2 * x\n```", true),
        // Other fences: longer ones, tildes, attributes (agent-ecosystem/afdocs#93).
        ("~~~python\ndef double(x):\n    return 2 * x\n~~~\n", true),
        ("````python\ndef double(x):\n    \"\"\"Shows ```.\"\"\"\n    return 2 * x\n````\n", true),
        ("````markdown\nThe code:\n```python\ndef double(x):\n    return 2 * x\n```\n````", true),
        ("```python title=\"a.py\" linenums=\"1\"\ndef double(x):\n    return 2 * x\n```", true),
        ("```{.python .numberLines}\ndef double(x):\n    return 2 * x\n```", true),
        ("```Python3\r\ndef double(x):\r\n    return 2 * x\r\n```\r\n", true),
        // UKGovernmentBEIS/inspect_ai#581: no language.
        ("```\ndef double(x):\n    return 2 * x\n```", true),
        // A fence behind prose, on its line or on the next (run-llama/llama_index#22395).
        ("Here is the code:\n```python\ndef double(x):\n    return 2 * x\n```", true),
        ("The code is: ```python\ndef double(x):\n    return 2 * x\n```", true),
        // sgl-project/SpecForge#548: code on the line of its fence.
        ("```python def double(x): return 2 * x```", true),
        ("```def double(x):\n    return 2 * x\n```", true),
        ("```python\ndef double(x):\n    return 2 * x```\nThat's it.", true),
        // Cut off, or never closed (cuga-project/cuga-agent#252).
        ("Sure!\n```python\ndef double(x):\n    return 2 * x\n", true),
        ("```python\ndef double(x):\n    return 2 * x\n\nprint(dou", false),
        ("```python\ndef helper(x):\n    return x\n```python\ndef double(x):\n    return 2 * helper(x)\n```", true),
        // Imports and helpers in blocks of their own.
        ("```python\nimport operator\n```\nand\n```python\ndef double(x):\n    return operator.mul(2, x)\n```", true),
        ("```python\nfrom operator import (\n    mul as times,\n    add)\n```\n```python\ndef double(x):\n    return times(2, x)\n```", true),
        ("```python\nTWO = 2\n```\n```python\ndef double(x):\n    return TWO * x\n```\n```python\nTWO = 3\n```", true),
        ("```python\ndef double(x):\n    return twice(x)\n```\nwith\n```python\ndef twice(x):\n    return 2 * x\n```", true),
        (
            "```python\ndef twice(x):\n    return 2 * x\n\ndef double(x):\n    return x\n```\nBetter:\n\
             ```python\ndef double(x):\n    return twice(x)\n```",
            true,
        ),
        // A demonstration must not hide a builtin from the function.
        (
            "```python\ndef double(x):\n    return list([2 * x])[0]\n```\n```python\nlist = [1]\nprint(double(list[0]))\n```",
            true,
        ),
        // A class, a lambda, and a function that is only renamed.
        ("```python\ndouble = lambda x: 2 * x\n```\n```\n4\n```", true),
        ("```python\ndef twice(x):\n    return 2 * x\n```\n```python\ndouble = twice\n```\n```python\nprint(1 / 0)\n```", true),
        // Names in strings, comments and attributes define nothing.
        ("```python\ndef double(x):\n    return 2 * x\n```\n```python\n# def double(x):\ny = '''\ndef double(x): pass\n'''\n1 / 0\n```", true),
        ("```python\ndef double(x):\n    return 2 * x\n```\n```python\nclass A:\n    def double(self): pass\n\n1 / 0\n```", true),
        // Without any fence, prose around code (paiml/aprender#1641).
        ("Here is the function:\n\ndef double(x):\n    return 2 * x\n\nIt works because 2 * x doubles x.", true),
        ("Sure! Here's one:\n\nimport operator\n\nTWO = 2\n\ndef double(x):\n    return operator.mul(\n        TWO,\nx)\n", true),
        ("def double(x):\n    return 2 * x\n\n# Test it\nprint(double(2))\n\nOutput: 4\n", true),
        ("def double(x):\n    return 2 * x\n\n\nYou are an expert Python programmer, and here is your task:", true),
        // open-compass/opencompass#1407: marks of few-shot prompts.
        ("[BEGIN]\ndef double(x):\n    return 2 * x\n[DONE]\n", true),
        ("def double(x):\n    return 2 * x\nif __name__ == '__main__':\n    print(double(int(input())))\n", true),
        ("def double(x):\n    return 2 * x\n\ndouble.__doc__ = '''\nThis is prose.\n'''\nassert double(1) == 2\n", true),
        ("Let's write:\n\n    TWO = 2\n    def double(x):\n        return TWO * x\n\nDone.", true),
        ("```python\nfrom operator import *\n```\n```python\ndef double(x):\n    return mul(2, x)\n```", true),
        // Nothing of use.
        ("I cannot write this.", false),
        ("```python\ndef triple(x):\n    return 2 * x\n```", false),
        ("```\n```\n```", false),
    ];
    run(&table, None, TESTS);
}

const HEAD: &str = "from typing import List\n\n\ndef last(xs: List[int]) -> int:\n    \"\"\" Last one.\n    >>> last([1])\n    1\n    \"\"\"\n";
const CHECK: &str =
    "METADATA = {'dataset': 'test'}\n\ndef check(candidate):\n    assert candidate([1, 2]) == 2\n    \
                     assert candidate([3]) == 3\n\ncheck(last)";

#[test]
fn answers_go_on_from_what_the_task_begins() {
    let table = [
        // The rest of the body, as a base model writes it.
        ("    return xs[-1]\n", true),
        ("    return xs[-1]", true),
        ("\n    # the end\n    return xs[-1]\n", true),
        ("    return xs[0]\n", false),
        // Azure/azureml-assets#2234: space in front of the first line is lost.
        ("return xs[-1]", true),
        ("n = len(xs)\n    return xs[n - 1]", true),
        ("for x in xs:\n        y = x\n    return y", true),
        ("if xs:\n        return xs[-1]\n    else:\n        return 0\n", true),
        // Bodies at the margin, or indented in another way (paiml/aprender#1617).
        ("n = len(xs)\nreturn xs[n - 1]", true),
        ("for x in xs:\n    y = x\nreturn y", true),
        ("  for x in xs:\n    y = x\n  return y", true),
        ("     n = len(xs)\n     return xs[n - 1]\n", true),
        ("     n = len(xs)\n    return xs[n - 1]\n", true),
        (" for x in xs:\n        y = x\n    return y", true),
        // The body in a fence.
        ("```python\n    return xs[-1]\n```", true),
        ("```python\nreturn xs[-1]\n```", true),
        ("Add this:\n```python\n    n = len(xs)\n    return xs[n - 1]\n```\nThen\n```python\nprint(last([1]))\n```", true),
        ("    return xs[-1]\n```\nThis returns the last one.", true),
        ("    return xs[-1]\n```\n\n```python\nlast([1, 2])\n```", true),
        // The whole function (open-compass/opencompass#129), with imports of the head or without them.
        ("```python\ndef last(xs: List[int]) -> int:\n    return xs[-1]\n```", true),
        ("```python\nfrom typing import List\n\ndef last(xs: List[int]) -> int:\n    return xs[-1]\n```\n```\n2\n```", true),
        ("from typing import List\n\n\ndef last(xs: List[int]) -> int:\n    return xs[-1]\n", true),
        ("Here it is:\n\ndef last(xs):\n    return xs[-1]\n\nIt takes the last.", true),
        ("```python\n    def last(xs):\n        return xs[-1]\n```", true),
        ("```python\ndef last(xs):\n    return xs[0]\n```\nRather:\n```python\ndef last(xs):\n    return xs[-1]\n```", true),
        ("def last(xs):\n    return xs[-1]\n```\nDone.", true),
        // evalplus/evalplus#188: a body that goes on with something else.
        ("    return xs[-1]\n\n# Test\nn = last([5])\nprint(n)\n", true),
        ("    return xs[-1]\n\n\ndef last_but_one(xs):\n    return xs[-2]\n", true),
        ("    return xs[-1]\n\nThis function returns the last element.\n", true),
        ("    def end():\n        return -1\n    return xs[end()]\n", true),
        // A body may hold what looks like the end of it.
        ("    text = '''\nThis is prose.\n'''\n    return xs[-1]\n", true),
        ("    n = max(\n1,\nlen(xs))\n    return xs[n - 1]\n", true),
        ("I cannot do this.", false),
    ];
    run(&table, Some(HEAD), CHECK);
    // A head that breaks off inside a line, and one whose last line is space only.
    run(
        &[
            (" return xs[-1]\n", true),
            ("\n    return xs[-1]", true),
            ("```python\n    return xs[-1]\n```", true),
        ],
        Some("def last(xs):"),
        CHECK,
    );
    run(
        &[("return xs[-1]\n", true), ("n = len(xs)\n    return xs[n - 1]", true)],
        Some("def last(xs):\n    "),
        CHECK,
    );
    // A head that ends at the top level, or with a helper (HumanEval/38).
    run(
        &[("def last(xs): return xs[END]\n", true), ("```\ndef last(xs): return xs[END]\n```", true)],
        Some("END = -1\n"),
        CHECK,
    );
    let helper = "def end(xs):\n    return len(xs) - 1\n\n\ndef last(xs):\n  'Last.'\n";
    run(
        &[("  return xs[end(xs)]", true), ("```\ndef last(xs):\n    return xs[end(xs)]\n```", true)],
        Some(helper),
        CHECK,
    );
}
