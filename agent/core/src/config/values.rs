//! Single values: from a setting's text to a word, number, time or list, within the bounds that the setting declares.

use std::sync::Arc;
use std::time::Duration;

use super::duration;
use super::origin::{At, Origin};
use super::problem::Fault;
use super::resolve::Resolving;
use super::setting::{self, Kind, Setting};
use super::written::{Given, Item};
use crate::target::Protocol;

/// The longest label value, as long as the longest name.
const MAX_TEXT: usize = 253;

/// Most buckets of a histogram.
const MAX_BOUNDS: usize = 30;

/// A time and where it was written, for what is wrong with it only in company.
#[derive(Debug, Clone)]
pub(super) struct Timed {
    pub(super) value: Duration,
    pub(super) text: String,
    pub(super) at: At,
}

impl Resolving<'_> {
    /// Each entry of a list, read by `parse`: at most so many, what is wrong with one that cannot be read, and what
    /// they are if none is written.
    pub(super) fn items<T: Clone>(
        &mut self,
        setting: &'static Setting,
        parse: fn(&str) -> Option<T>,
        (most, fault, fallback): &(usize, Fault, &[T]),
    ) -> Option<Vec<T>> {
        let Some(given) = self.written.values.get(setting.key) else { return Some(fallback.to_vec()) };
        if given.items.is_empty() && setting.kind == Kind::Servers {
            self.note(At::new(setting.key, given.origin.clone()), None, Fault::EmptyList);
        }
        if given.items.len() > *most {
            self.note(At::new(setting.key, given.origin.clone()), None, Fault::TooMany(*most));
        }
        let mut parsed = Vec::with_capacity(given.items.len());
        for Item { text, origin } in &given.items {
            match parse(text) {
                Some(value) => parsed.push(value),
                None => self.note(At::new(setting.key, origin.clone()), Some(text), fault.clone()),
            }
        }
        (parsed.len() == given.items.len()).then_some(parsed)
    }

    /// The value in force and its place: as written, or the default.
    pub(super) fn given(&self, setting: &'static Setting) -> Option<Given> {
        if let Some(given) = self.written.values.get(setting.key) {
            return Some(given.clone());
        }
        self.written.get(setting).map(|(text, origin)| Given::new(setting.kind, origin, &text))
    }

    pub(super) fn one(&self, setting: &'static Setting) -> Option<(String, At)> {
        self.written.get(setting).map(|(text, origin)| (text, At::new(setting.key, origin)))
    }

    pub(super) fn plain_text(&mut self, setting: &'static Setting) -> Option<String> {
        let (text, at) = self.one(setting)?;
        if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            self.note(at, None, Fault::NotPlainText);
            return None;
        }
        Some(text)
    }

    pub(super) fn word(&mut self, setting: &'static Setting) -> Option<String> {
        let (text, at) = self.one(setting)?;
        let Kind::Choice(words) = setting.kind else { return None };
        if !words.contains(&&*text) {
            self.note(at, Some(&text), Fault::NotChoice(words.join(", ")));
            return None;
        }
        Some(text)
    }

    pub(super) fn switch(&mut self, setting: &'static Setting) -> Option<bool> {
        let (text, at) = self.one(setting)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.note(at, Some(&text), Fault::NotSwitch);
        }
        value
    }

    pub(super) fn duration(&mut self, setting: &'static Setting) -> Option<Timed> {
        let (text, at) = self.one(setting)?;
        self.time(setting, text, at)
    }

    /// A time within the bounds of a setting.
    pub(super) fn time(&mut self, setting: &'static Setting, text: String, at: At) -> Option<Timed> {
        let Kind::Duration { min, max } = setting.kind else { return None };
        let fault = match duration::parse(&text) {
            Some(value) if (min..=max).contains(&value) => return Some(Timed { value, text, at }),
            Some(_) => Fault::DurationRange { min, max },
            None => Fault::NotDuration,
        };
        self.note(at, Some(&text), fault);
        None
    }

    pub(super) fn whole(&mut self, setting: &'static Setting) -> Option<u64> {
        let (text, at) = self.one(setting)?;
        let Kind::Whole { min, max, .. } = setting.kind else { return None };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let value = text.parse().ok().filter(|number| digits && (min..=max).contains(number));
        if value.is_none() {
            self.note(at, Some(&text), Fault::NumberRange { min, max });
        }
        value
    }

    pub(super) fn decimal(&mut self, setting: &'static Setting) -> Option<f64> {
        let (text, at) = self.one(setting)?;
        let Kind::Decimal { min, max, .. } = setting.kind else { return None };
        let (least, most) = (number(min)?, number(max)?);
        let value = number(&text).filter(|value| (least..=most).contains(value));
        if value.is_none() {
            self.note(at, Some(&text), Fault::DecimalRange { min, max });
        }
        value
    }

    /// The protocols of a list, each once, in label order.
    pub(super) fn protocols(&mut self, key: &'static str, given: &Given) -> Option<Vec<Protocol>> {
        let named = |label: &str| Protocol::ALL.into_iter().find(|protocol| protocol.label() == label);
        if given.items.iter().any(|item| named(&item.text).is_none()) {
            let text = given.text();
            self.note(At::new(key, given.origin.clone()), Some(&text), Fault::NotProtocols);
            return None;
        }
        let wanted: Vec<_> = given.items.iter().filter_map(|item| named(&item.text)).collect();
        Some(Protocol::ALL.into_iter().filter(|protocol| wanted.contains(protocol)).collect())
    }

    pub(super) fn default_protocols(&mut self) -> Option<Vec<Protocol>> {
        let given = self.given(&setting::PROTOCOLS)?;
        if given.items.is_empty() {
            self.note(At::new(setting::PROTOCOLS.key, given.origin.clone()), None, Fault::EmptyList);
            return None;
        }
        self.protocols(setting::PROTOCOLS.key, &given)
    }

    pub(super) fn bounds(&mut self, setting: &'static Setting) -> Option<Arc<[f64]>> {
        let given = self.given(setting)?;
        let at = |origin: &Origin| At::new(setting.key, origin.clone());
        if given.items.is_empty() || given.items.len() > MAX_BOUNDS {
            self.note(at(&given.origin), None, Fault::BoundCount);
            return None;
        }
        let mut bounds: Vec<f64> = Vec::with_capacity(given.items.len());
        let mut last = "";
        for Item { text, origin } in &given.items {
            let bound = number(text).filter(|bound| *bound > 0.0);
            let fault = match (bound, bounds.last()) {
                (None, _) => Fault::NotBound,
                (Some(bound), _) if bound.fract() == 0.0 => Fault::WholeBound(bound),
                (Some(bound), Some(before)) if bound <= *before => Fault::BoundOrder(last.to_owned()),
                (Some(bound), _) => {
                    bounds.push(bound);
                    last = text;
                    continue;
                }
            };
            self.note(at(origin), Some(text), fault);
        }
        (bounds.len() == given.items.len()).then(|| bounds.into())
    }
}

/// A finite number in decimal notation, perhaps with a power of ten; no sign.
fn number(text: &str) -> Option<f64> {
    let starts = text.bytes().next()?.is_ascii_digit();
    text.parse().ok().filter(|number: &f64| starts && number.is_finite())
}
