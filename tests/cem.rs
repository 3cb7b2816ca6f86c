//! The cross-entropy method: it finds what was planted, and its rules are those of a table worked out by hand.

use llama_svf::cem::{elites, normalised, Cem, Score, Settings, Ties};

fn score(value: f64, tie: f64) -> Score {
    Score { value, tie: Some(tie) }
}

/// Minus the squared distance of the normalised weights from `planted`.
fn closeness(alphas: &[f64], n_experts: usize, planted: &[f64]) -> f64 {
    let weights = normalised(alphas, n_experts);
    -weights.iter().zip(planted).map(|(a, b)| (a - b).powi(2)).sum::<f64>()
}

fn search(n_experts: usize, planted: &[f64], settings: Settings) -> Cem {
    let mut cem = Cem::new(n_experts, planted.len() / n_experts, settings).unwrap();
    while !cem.is_done() {
        let scores: Vec<_> =
            cem.ask().iter().map(|alphas| score(closeness(alphas, n_experts, planted), 0.0)).collect();
        cem.tell(&scores).unwrap();
    }
    cem
}

#[test]
fn a_planted_mixture_is_found() {
    for seed in 0..5 {
        println!("seed {seed}");
        for (n_experts, planted, settings, tolerance) in [
            (3, vec![0.6, 0.3, 0.1], Settings::reference(), 0.02),
            (3, vec![1.0, 0.0, 0.0], Settings::reference(), 0.02),
            // Two groups of layers that want opposite experts.
            (2, vec![0.9, 0.1, 0.1, 0.9], Settings::reference(), 0.05),
            (3, vec![0.6, 0.3, 0.1], Settings::light(), 0.1),
        ] {
            let cem = search(n_experts, &planted, Settings { seed, ..settings });
            let found = normalised(&cem.incumbent().unwrap().alphas, n_experts);
            for (found, planted) in found.iter().zip(&planted) {
                assert!((found - planted).abs() <= tolerance, "{found} {planted}");
            }
        }
    }
}

/// How many of the first `n` seeds whose first candidates all score 0 find weights near `planted`, where everything farther away scores 0.
fn count_found(ties: Ties, n: usize) -> usize {
    let planted = [0.0, 0.0, 0.0, 0.8, 0.2, 0.0];
    let is_near = |alphas: &[f64]| closeness(alphas, 6, &planted) > -0.01;
    let begins = |seed| Cem::new(6, 1, Settings { ties, seed, ..Settings::light() }).unwrap();
    let found = |mut cem: Cem| {
        while !cem.is_done() {
            let worth = |alphas: &Vec<f64>| score(f64::from(is_near(alphas)), closeness(alphas, 6, &planted));
            cem.tell(&cem.ask().iter().map(worth).collect::<Vec<_>>()).unwrap();
        }
        cem.incumbent().unwrap().score.value == 1.0
    };
    let lost = (0..).map(begins).filter(|cem| !cem.ask().iter().any(|alphas| is_near(alphas)));
    lost.take(n).map(found).filter(|&found| found).count()
}

#[test]
fn where_all_score_nothing_the_gold_answers_show_the_way() {
    let (by_gold, by_score) = (count_found(Ties::Gold, 10), count_found(Ties::Own, 10));
    println!("first 10 such seeds: {by_gold} by gold, {by_score} by score alone");
    assert!(by_gold >= 9, "{by_gold} of 10");
    assert!(by_score <= 3, "{by_score} of 10: the toy is too easy to show anything");
}

#[test]
fn the_reference_preset_is_the_released_codes() {
    let cem = Cem::new(4, 2, Settings::reference()).unwrap();
    let Settings { population, elites, std, .. } = *cem.settings();
    assert_eq!((population, elites, std), (32, 6, 0.5));
    assert_eq!((cem.mean(), cem.std()), (&[0.25; 8][..], &[0.5; 8][..]));
    let population = cem.ask();
    assert_eq!(population.len(), 32);
    assert_eq!(population[0], [0.25; 8], "the first candidate is the initial mean");
    assert!(population.iter().flatten().all(|alpha| (0.0..=1.0).contains(alpha)));
    // A quarter of N(0.25, 0.5) lies below 0 or above 1 each: the clamp is seen.
    let count = |at: f64| population.iter().flatten().filter(|&&alpha| alpha == at).count();
    assert!(count(0.0) > 20 && count(1.0) > 2, "{} {}", count(0.0), count(1.0));
    assert_eq!(population, cem.ask(), "asking changes nothing");
    assert_eq!(cem.settings().ties, Ties::Own);
    assert_eq!((Settings::light().generations, Settings::light().ties), (10, Ties::Gold));
}

#[test]
fn elites_go_by_score_alone_and_the_first_of_equal_ones_count() {
    let scores = [
        score(0.5, -9.0),
        score(0.7, -1.0),
        score(0.5, -0.1),
        score(0.9, -5.0),
        score(0.7, -0.5),
        score(0.1, 0.0),
    ];
    assert_eq!(elites(&scores, 3, Ties::Own), [3, 1, 4]);
    // Candidate 2 has the better tie-breaker, but 0 comes first.
    assert_eq!(elites(&scores, 4, Ties::Own), [3, 1, 4, 0]);
    // Our own rule heeds it, and what has none comes last.
    assert_eq!(elites(&scores, 4, Ties::Gold), [3, 4, 1, 2]);
    let none = [Score { value: 0.0, tie: None }, score(0.0, -9.0), score(0.0, -1.0)];
    assert_eq!(elites(&none, 3, Ties::Gold), [2, 1, 0]);
    assert_eq!(elites(&none, 3, Ties::Own), [0, 1, 2]);
}

/// Two generations of five candidates for one weight in each of two groups, worked out by hand from the population
/// that was drawn.
#[test]
fn mean_std_and_incumbent_follow_the_rules() {
    let settings = Settings { population: 5, elites: 3, generations: 2, std: 0.5, ties: Ties::Own, seed: 7 };
    let mut cem = Cem::new(2, 1, settings).unwrap();
    let first = cem.ask();
    // 1, 2 and 4 are best by value; of 1 and 4, which are equal, 4 has the better tie-breaker.
    cem.tell(&[score(0.2, 0.0), score(0.8, -2.0), score(0.4, -9.0), score(0.2, -0.1), score(0.8, -1.0)])
        .unwrap();
    let incumbent = cem.incumbent().unwrap();
    assert_eq!((&incumbent.alphas, incumbent.generation), (&first[4], 0));
    let [_, elite1, elite2, _, elite4] = &first[..] else { panic!("five candidates") };
    for (i, ((a, b), c)) in elite1.iter().zip(elite2).zip(elite4).enumerate() {
        let mean = (a + b + c) / 3.0;
        let std = (((a - mean).powi(2) + (b - mean).powi(2) + (c - mean).powi(2)) / 2.0).sqrt();
        assert!((cem.mean()[i] - mean).abs() < 1e-15 && (cem.std()[i] - std).abs() < 1e-15);
    }

    let second = cem.ask();
    assert_eq!(second[0], first[4], "the first candidate is the incumbent");
    assert_ne!(second[1], first[1], "generations have samples of their own");
    // An equal score does not replace the incumbent, and neither does one without correct answers to tell ties by.
    let nothing = Score { value: 0.8, tie: None };
    cem.tell(&[score(0.8, -1.0), score(0.8, -1.0), nothing, score(0.7, 0.0), score(0.1, 0.0)]).unwrap();
    assert_eq!((&cem.incumbent().unwrap().alphas, cem.generation()), (&first[4], 2));
    assert!(cem.is_done());
}

#[test]
fn elites_that_agree_leave_no_spread() {
    let mut cem = Cem::new(
        1,
        1,
        Settings { population: 3, elites: 2, generations: 3, std: 1e-300, ties: Ties::Own, seed: 1 },
    )
    .unwrap();
    cem.tell(&[score(1.0, 0.0), score(1.0, 0.0), score(0.0, 0.0)]).unwrap();
    assert_eq!((cem.mean(), cem.std()), (&[1.0][..], &[0.0][..]), "there is no floor");
    assert_eq!(cem.ask(), [[1.0], [1.0], [1.0]]);
}

#[test]
fn a_stored_search_goes_on_as_it_would_have() {
    let planted = [0.2, 0.8];
    let settings = Settings { seed: 3, ..Settings::light() };
    let whole = search(2, &planted, settings.clone());
    let mut cem = Cem::new(2, 1, settings).unwrap();
    while !cem.is_done() {
        let scores: Vec<_> =
            cem.ask().iter().map(|alphas| score(closeness(alphas, 2, &planted), 0.0)).collect();
        cem.tell(&scores).unwrap();
        cem = serde_json::from_str(&serde_json::to_string(&cem).unwrap()).unwrap();
    }
    assert_eq!(cem, whole);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let good = Settings::reference;
    for (settings, fragment) in [
        (Settings { elites: 1, ..good() }, "elites: expected 2 or more, found 1"),
        (Settings { population: 6, ..good() }, "population: expected more than the 6 elites, found 6"),
        (Settings { generations: 0, ..good() }, "generations"),
        (Settings { std: 0.0, ..good() }, "std"),
        (Settings { std: f64::NAN, ..good() }, "std"),
    ] {
        let error = Cem::new(3, 1, settings).unwrap_err().to_string();
        assert!(error.contains(fragment), "{error}");
    }
    assert!(Cem::new(0, 1, good()).unwrap_err().to_string().contains("1 expert or more"));
    assert!(Cem::new(1, 0, good()).unwrap_err().to_string().contains("groups"));
    let mut cem = Cem::new(2, 1, good()).unwrap();
    assert!(cem.tell(&[score(1.0, 0.0)]).unwrap_err().to_string().contains("expected 32 scores, found 1"));
    let mut scores = vec![score(1.0, 0.0); 32];
    scores[7].value = f64::NAN;
    assert!(cem.tell(&scores).unwrap_err().to_string().contains("candidate 7"));
    assert_eq!(cem.generation(), 0, "nothing was told");
}
