//! How names are compared: NFKC, lower case, outer white space ignored. `ＬＧＷＡＮ接続系` and `lgwan接続系` are one
//! name; without this a rule for a zone could be dodged, and a look-alike label created, by typing variants.

use unicode_normalization::UnicodeNormalization as _;

/// Longest name of a label, group or post, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 255;

/// The form in which two names are compared; never shown to people.
///
/// NFKC is applied again after lower-casing because lower-casing can leave a form that NFKC would change.
pub fn fold_name(name: &str) -> String {
    let name = name.trim();
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    name.nfkc().collect::<String>().to_lowercase().nfkc().collect::<String>().trim().to_owned()
}
