//! Tests of the module `options`.

use super::*;

#[test]
fn names_and_indices_that_a_runtime_takes() {
    for name in ["a", "logger", "A-b_c.d+9"] {
        Options::external(name, "00").unwrap();
    }
    for name in ["", "a b", "a/b", "ä"] {
        assert!(
            matches!(Options::external(name, "00"), Err(Error::Name { .. })),
            "{name:?}"
        );
    }
    for index in ["", "1", "100", "1a", "+1", " 1"] {
        let error = Options::external("a", index).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("plugin index {index:?}: expected two digits")
        );
    }
}

#[test]
fn descriptors_of_the_environment() {
    assert_eq!(descriptor("3".as_ref()).unwrap(), 3);
    for value in ["", "x", "-1", "0", "2", "99999999999"] {
        assert!(
            matches!(descriptor(value.as_ref()), Err(Error::Environment { .. })),
            "{value:?}"
        );
    }
}
