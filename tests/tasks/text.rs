//! Answers compared as text.

use llama_svf::reward::text::Text;

#[test]
fn texts() {
    let exact = Text::new(None, false).unwrap();
    assert_eq!(exact.score("Paris", " Paris\n").value, 1.0);
    assert_eq!(exact.score("Paris", "paris").value, 0.0);
    assert_eq!(Text::new(None, true).unwrap().score("Paris", "paris").value, 1.0);
    let pattern = Text::new(Some("Answer: (.*)"), false).unwrap();
    assert_eq!(pattern.score("7", "Answer: 5\nAnswer: 7\nso it is").value, 1.0);
    assert_eq!(pattern.score("5", "Answer: 5\nAnswer: 7").value, 0.0);
    assert_eq!(pattern.score("5", "5").value, 0.0);
    assert_eq!(pattern.score("5", "").value, 0.0);
    assert!(Text::new(Some("("), false).is_err());
}
