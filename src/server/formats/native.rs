//! llama.cpp's own form, of `/completion`.

use std::sync::Arc;

use serde_json::{json, Map, Value};

use super::{probs_json, progress_json, Answer, Format, Frame, Part};
use crate::engine::scheduler::{Ended, Reading};
use crate::server::prompt;
use crate::server::sampling;
use crate::server::state::State;
use crate::server::wishes::Wishes;

/// Writes answers so.
pub struct Native {
    pub state: Arc<State>,
    pub wishes: Arc<Wishes>,
}

impl Native {
    fn part_json(&self, answer: &Answer, part: &Part) -> Map<String, Value> {
        let mut json = Map::from_iter([
            ("index".to_owned(), json!(answer.index)),
            ("content".to_owned(), json!(part.text)),
            ("tokens".to_owned(), json!(part.tokens)),
            ("stop".to_owned(), json!(false)),
            ("id_slot".to_owned(), json!(-1)),
            ("tokens_predicted".to_owned(), json!(answer.n_written)),
            ("tokens_evaluated".to_owned(), json!(answer.prompt.len())),
        ]);
        if self.wishes.timings_per_token {
            json.insert("timings".into(), answer.timings.json());
        }
        json
    }

    /// A whole answer; its text and tokens were sent before where it was `streamed`.
    fn whole_json(&self, answer: &Answer, is_streamed: bool) -> Value {
        let json = final_json(&self.state, &self.wishes, answer, is_streamed);
        match self.wishes.response_fields.as_slice() {
            [] => json,
            wanted => picked(wanted, &json),
        }
    }
}

/// Everything about an answer.
pub fn final_json(state: &State, wishes: &Wishes, answer: &Answer, is_streamed: bool) -> Value {
    let completion = answer.completion.as_ref();
    let stop_type = match completion.map(|it| it.ended) {
        Some(Ended::End) => "eos",
        Some(Ended::Stop) => "word",
        Some(Ended::Length | Ended::Context) => "limit",
        _ => "none",
    };
    let tokens = completion.filter(|_| wishes.return_tokens && !is_streamed).map_or(&[][..], |it| &it.tokens);
    let mut json = json!({
        "index": answer.index,
        "content": if is_streamed { "" } else { &answer.content },
        "tokens": tokens,
        "id_slot": -1,
        "stop": true,
        "model": state.alias,
        "tokens_predicted": answer.n_written,
        "tokens_evaluated": answer.prompt.len(),
        "generation_settings": settings_json(wishes),
        "prompt": prompt::text(state.model(), &answer.prompt),
        "has_new_line": answer.content.contains('\n'),
        "truncated": answer.is_truncated,
        "stop_type": stop_type,
        "stopping_word": completion.and_then(|it| it.stopped_by.as_deref()).unwrap_or_default(),
        "tokens_cached": (answer.prompt.len() + answer.n_written).saturating_sub(1),
        "timings": answer.timings.json(),
        "svf": answer.chosen.report(),
    });
    if !is_streamed && !answer.probs.is_empty() {
        json["completion_probabilities"] = probs_json(&answer.probs, wishes, state.model());
    }
    json
}

/// What the answer was made with.
pub fn settings_json(wishes: &Wishes) -> Value {
    let mut json = sampling::describe(&wishes.sampler);
    // −1 stands for as many as there is room for.
    let n_predict = wishes.n_predict.map_or(json!(-1), |n| json!(n));
    for (name, value) in [
        ("n_predict", n_predict.clone()),
        ("max_tokens", n_predict),
        ("ignore_eos", json!(wishes.ignore_eos)),
        ("stop", json!(wishes.stop)),
        ("stream", json!(wishes.is_streamed)),
        ("n_probs", json!(wishes.n_probs)),
        ("post_sampling_probs", json!(wishes.post_sampling_probs)),
        ("timings_per_token", json!(wishes.timings_per_token)),
    ] {
        json[name] = value;
    }
    json
}

/// The members of `json` that are wanted: `a/b` is member `b` of member `a`.
fn picked(wanted: &[String], json: &Value) -> Value {
    let member = |path: &String| {
        let value = path.split('/').try_fold(json, |value, name| value.get(name))?;
        Some((path.clone(), value.clone()))
    };
    Value::Object(wanted.iter().filter_map(member).collect())
}

impl Format for Native {
    fn progress(&mut self, answer: &Answer, reading: &Reading) -> Vec<Frame> {
        let mut json = self.part_json(answer, &Part::default());
        json.insert("prompt_progress".into(), progress_json(reading));
        vec![Frame::Data(Value::Object(json))]
    }

    fn part(&mut self, answer: &Answer, part: Part) -> Vec<Frame> {
        let mut json = self.part_json(answer, &part);
        if !part.probs.is_empty() {
            let probs = probs_json(&part.probs, &self.wishes, self.state.model());
            json.insert("completion_probabilities".into(), probs);
        }
        vec![Frame::Data(Value::Object(json))]
    }

    fn end(&mut self, answer: &Answer) -> Vec<Frame> {
        vec![Frame::Data(self.whole_json(answer, true))]
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        match answers {
            [answer] => self.whole_json(answer, false),
            several => several.iter().map(|answer| self.whole_json(answer, false)).collect(),
        }
    }

    fn last(&self) -> Option<Frame> {
        None
    }
}
