//! Templates as they are written for Python's Jinja: what they give, which methods are there, and what is refused.

use std::fs;

use llama_svf::task::{LoadOptions, Part, Task};
use serde_json::json;

/// The prompt that a template gives for one row, or why it gives none.
fn render(template: &str) -> Result<String, String> {
    let row = json!({
        "question": "  What is 2 + 2?  ",
        "answer": "First.\nThen <<2+2=4>>4.\n#### 4",
        "text": "the cat sat on the mat",
        "id": "Arabic-Food-3",
        "choices": { "text": ["up", "down", "left"], "label": ["A", "B", "C"] },
        "answerKey": "C",
        "answerKeySpaced": " B",
        "numbers": ["1", "2", "3", "4"],
        "correct_answer_num": "3",
        "answer_options": { "answer_id": [1, 2, 3, 4, 5], "answer_str": ["a", "b", "c", "d", "e"] },
        "correct_answer_id": "4",
        "aliases": ["Paris", "City of Light"],
        "is_true": true,
        "nothing": null,
        "level": 4,
        "ratio": 0.5,
        "money": "It costs $5, or $5.50.",
        "accents": "ñandú",
        "Paráfrase": "o mesmo",
        "options": [{ "atext": "yes", "aid": 1 }, { "atext": "no", "aid": 2 }],
    });
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rows.jsonl"), format!("{row}\n")).unwrap();
    let path = folder.path().join("task.toml");
    let task = format!(
        "prompt = '''<{template}>'''\ngold = \"1\"\n[data]\ntest = [\"rows.jsonl\"]\n[reward]\nkind = \"text\"\n"
    );
    fs::write(&path, task).unwrap();
    let task =
        Task::load(path.to_str().unwrap(), &LoadOptions::default()).map_err(|error| error.to_string())?;
    let prompt = &task.items(Part::Test)[0].prompt;
    Ok(prompt[1..prompt.len() - 1].to_owned())
}

#[track_caller]
fn check(table: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (template, expected) in table {
        let found = render(template);
        if found.as_deref() != Ok(*expected) {
            wrong.push(format!("{template}: {found:?}, expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.len(), wrong.join("\n"));
}

/// Expressions of the kinds that tasks of EleutherAI/lm-evaluation-harness are written with (lm_eval/tasks).
#[test]
fn templates_of_evaluation_harnesses() {
    check(&[
        ("{{ answer.split('####')[-1].strip() }}", "4"),
        ("{{ question.strip() }}", "What is 2 + 2?"),
        ("{{ question.lstrip() }}|{{ question.rstrip() }}", "What is 2 + 2?  |  What is 2 + 2?"),
        ("{{ choices.label.index(answerKey) }}", "2"),
        // openbookqa.
        ("{{ choices.label.index(answerKeySpaced.lstrip()) }}", "1"),
        // belebele.
        ("{{ ['1', '2', '3', '4'].index(correct_answer_num) }}", "2"),
        ("{{ numbers.index(correct_answer_num) }}", "2"),
        // lambada.
        ("{{ text.split(' ')[:-1] | join(' ') }}", "the cat sat on the"),
        ("{{ ' ' + text.split(' ')[-1] }}", " mat"),
        // EleutherAI/lm-evaluation-harness#1553.
        ("The following are questions on {{ id.split('-')[0] }}.", "The following are questions on Arabic."),
        // EleutherAI/lm-evaluation-harness#1178.
        ("{{ ['A', 'B', 'C', 'D'][level - 1] }}", "D"),
        // mgsm: a field without a value.
        ("{% if nothing is not none %}{{ nothing[21:] }}{% else %}{{ level | string }}{% endif %}", "4"),
        ("{% if is_few_shot is defined %}shot{% else %}no shot{% endif %}", "no shot"),
        // headqa.
        ("{{ options | map(attribute='atext') | list | join('/') }}", "yes/no"),
        ("{{ choices.text | length }}", "3"),
        // bigscience-workshop/promptsource templates.
        ("{{ choices.text | join('|||') }}", "up|||down|||left"),
        ("{{ ', '.join(choices.text) }}", "up, down, left"),
        ("{{ text.replace('cat', 'dog') }}", "the dog sat on the mat"),
        ("{{ text | replace('cat', 'dog') }}", "the dog sat on the mat"),
        ("{{ text.capitalize() }}", "The cat sat on the mat"),
        ("{{ text.lower().startswith('the') }}", "True"),
        ("{{ 'yes' if is_true else 'no' }}", "yes"),
        ("{% for c in choices.text %}{{ choices.label[loop.index0] }}. {{ c }}{% if not loop.last %}, {% endif %}{% endfor %}",
         "A. up, B. down, C. left"),
        // As Python prints them: boolq's answers, lists that a model is shown.
        ("{{ is_true }} {{ nothing }} {{ choices.text }}", "True None ['up', 'down', 'left']"),
        ("{{ level ~ ': ' ~ ratio }}", "4: 0.5"),
        // galician_bench, spanish_bench: names with accents.
        ("{{ Paráfrase.split()[0] }}", "o"),
        // coqa, webqs and others.
        ("{% for i in range(aliases | length - 1) %}{{ aliases[i] }};{% endfor %}{{ aliases[-1] }}", "Paris;City of Light"),
        // wic: places that fields give.
        ("{{ text[level:level + 3] }}", "cat"),
        ("{{ answer_options.answer_id.index(correct_answer_id | int) }}", "3"),
    ]);
}

#[test]
fn habits_of_python() {
    check(&[
        ("{{ accents[-1] }} {{ accents[1:4] }} {{ accents[::-1] }} {{ accents | length }}", "ú and údnañ 5"),
        ("{{ choices.text[-1] }} {{ choices.text[1:] }} {{ aliases[0].upper() }}", "left ['down', 'left'] PARIS"),
        ("{{ text.find('cat') }} {{ text.find('dog') }} {{ accents.find('d') }} {{ text.rfind('the') }}", "4 -1 3 15"),
        ("{{ text.index('cat') }} {{ accents.index('d') }} {{ text.rindex('the') }}", "4 3 15"),
        ("{{ text.split() | length }} {{ text.split(maxsplit=1)[1] }} {{ text.split(' ', 1)[0] }}", "6 cat sat on the mat the"),
        ("{{ id.split(sep='-', maxsplit=1) }} {{ id.rsplit('-', 1) }}", "['Arabic', 'Food-3'] ['Arabic-Food', '3']"),
        ("{{ ' a b  c '.rsplit(none, 1) }} {{ ' a b  c '.rsplit() }} {{ ' a '.rsplit(maxsplit=0) }}",
         "[' a b', 'c'] ['a', 'b', 'c'] [' a']"),
        ("{{ id.partition('-')[2] }} {{ id.rpartition('-')[0] }} {{ id.partition('/')[0] }}", "Food-3 Arabic-Food Arabic-Food-3"),
        ("{{ id.removeprefix('Arabic-') }} {{ id.removesuffix('-3') }} {{ id.removeprefix('x') }}", "Food-3 Arabic-Food Arabic-Food-3"),
        ("{{ '7'.zfill(3) }} {{ '-7'.zfill(4) }} {{ '1234'.zfill(2) }}", "007 -007 1234"),
        ("{{ 'ab'.center(5, '*') }} {{ 'abc'.center(6, '*') }} {{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '.') }}", "**ab* *abc** a  |..a"),
        ("{{ 'aB'.swapcase() }} {{ 'AB'.casefold() }} {{ 'ab cd'.title() }} {{ '12'.isdigit() }}", "Ab ab Ab Cd True"),
        ("{{ answer.splitlines()[-1] }} {{ text.count('at') }} {{ text.endswith('mat') }}", "#### 4 3 True"),
        ("{{ choices.get('text')[0] }} {{ choices.get('none', 'default') }} {{ choices.get('none') }}", "up default None"),
        ("{% for k, v in choices.items() %}{{ k }}={{ v[0] }} {% endfor %}{{ choices.keys() | list }}", "label=A text=up ['label', 'text']"),
        ("{{ '{} of {}'.format(level, 'five') }} {{ '{0:>3}|{n:.2f}'.format(7, n=ratio) }}", "4 of five   7|0.50"),
        ("{{ '%s is %.1f' | format('it', ratio) }}", "it is 0.5"),
        ("{{ level // 3 }} {{ level ** 2 }} {{ level % 3 }} {{ 'a' * 3 }} {{ level in [1, 4] }}", "1 16 1 aaa True"),
        ("{% set ns = namespace(n=0) %}{% for c in choices.text %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "3"),
        ("{{ choices.text + ['right'] }} {{ choices.label | last }}", "['up', 'down', 'left', 'right'] C"),
        ("{{ missing | default('default') }} {{ level is number }} {{ text is string }}", "default True True"),
        ("{{ choices | tojson }}", r#"{"label": ["A", "B", "C"], "text": ["up", "down", "left"]}"#),
    ]);
}

/// `re.sub`, as lm-evaluation-harness has it.
#[test]
fn regex_replace_writes_references_as_python_does() {
    check(&[
        ("{{ answer | regex_replace('<<[^>]*>>', '') }}", "First.\nThen 4.\n#### 4"),
        (r"{{ id | regex_replace('(\\w+)-(\\w+)-(\\d)', '\\3 \\1 \\2') }}", "3 Arabic Food"),
        (r"{{ id | regex_replace('(?P<first>\\w+)-', '[\\g<first>]\\g<1>') }}", "[Arabic]Arabic[Food]Food3"),
        // A dollar is a dollar.
        (r"{{ money | regex_replace('\\d', '$1') }}", "It costs $$1, or $$1.$1$1."),
        (
            r"{{ text | regex_replace('t', 'T', 1) }} {{ text | regex_replace('t', 'T', count=2) }}",
            "The cat sat on the mat The caT sat on the mat",
        ),
        (r"{{ 'a b' | regex_replace(' ', '\\n') }}", "a\nb"),
        (r"{{ 'so \\boxed{\\frac{1}{2}}, then \\boxed{ 3 }' | boxed }}", "3"),
        (r"{{ 'so $\\boxed{\\frac{1}{2}}$.' | boxed }}", r"\frac{1}{2}"),
    ]);
}

#[test]
fn what_cannot_be_done_says_why() {
    for (template, parts) in [
        ("{{ choices.label.index('Z') }}", &["rows.jsonl:1: prompt: ", "'Z' is not in the list"][..]),
        ("{{ text.index('dog') }}", &["prompt: ", "'dog' is not in the text"]),
        ("{{ choices.text.append('x') }}", &["prompt: ", "append"]),
        ("{{ text.nonsense() }}", &["prompt: ", "nonsense"]),
        ("{{ text.split('') }}", &["prompt: ", "cannot be split"]),
        ("{{ text.split(' ', most=1) }}", &["prompt: ", "most"]),
        ("{{ text.center(1000000000) }}", &["prompt: ", "width"]),
        ("{{ text | regex_replace('(', '') }}", &["prompt: ", "regex"]),
        (r"{{ text | regex_replace('t', '\\2') }}", &["prompt: ", "no group '2'"]),
        ("{{ text | boxed }}", &["prompt: ", "boxed"]),
        // The field that is missing is named, not one that need not be there, nor a function.
        (
            "{% if maybe is defined %}{% endif %}{{ absent }}{% for i in range(2) %}{{ i }}{% endfor %}",
            &["rows.jsonl:1: absent: no such field", "'prompt'"],
        ),
        ("{{ absent.split(' ')[-1].strip() }}", &["rows.jsonl:1: absent: no such field"]),
        ("{{ absent['a'] }}", &["rows.jsonl:1: absent: no such field"]),
        ("{% for c in options %}{{ c.absent }}{% endfor %}", &["rows.jsonl:1: prompt: ", "c.absent"]),
        (
            "{% if maybe is defined %}{% endif %}{{ choices.absent }}",
            &["rows.jsonl:1: prompt: ", "choices.absent"],
        ),
    ] {
        let error = render(template).expect_err(template);
        assert!(!error.contains('\n'), "{error}");
        for part in parts {
            assert!(error.contains(part), "{template}: no '{part}' in {error}");
        }
    }
}

/// Options may be written as a template writes them, and need not be a list of the row's own.
#[test]
fn options_of_a_choice() {
    let row = json!({ "q": "Which?", "sol1": "first", "sol2": "second", "label": 1, "n": [3, 5, 7] });
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rows.jsonl"), format!("{row}\n")).unwrap();
    for (options, gold) in [
        ("[sol1, sol2]", "B"),
        ("{{ [sol1, sol2] }}", "B"),
        ("{{[sol1,sol2]}}", "B"),
        ("n", "B"),
        ("n | map('string')", "B"),
        ("['no', 'yes']", "B"),
    ] {
        let path = folder.path().join("task.toml");
        let task = format!(
            "prompt = \"{{{{ q }}}}\"\ngold = \"{{{{ label }}}}\"\ncompletion = \"B\"\n[data]\ntest = [\"rows.jsonl\"]\n\
             [reward]\nkind = \"choice\"\ngold_is = \"index\"\noptions = \"{options}\"\n"
        );
        fs::write(&path, task).unwrap();
        let task = Task::load(path.to_str().unwrap(), &LoadOptions::default());
        let task = task.unwrap_or_else(|error| panic!("{options}: {error}"));
        let item = &task.items(Part::Test)[0];
        assert_eq!(item.gold.chars().next(), gold.chars().next(), "{options}: {}", item.gold);
        assert_eq!(task.score(item, &item.completion).unwrap().value, 1.0, "{options}");
    }
}
