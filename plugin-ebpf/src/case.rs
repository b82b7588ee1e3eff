//! One program and the questions that a policy has about it: findings, decision, report.

use plugin_common::{
    Container, DRIFT_OFF, Findings, KIND_ALLOW_DIR, KIND_ALLOW_NAME, KIND_ALLOW_PATH,
    KIND_ALLOW_PREFIX, KIND_ALLOW_SUFFIX, KIND_DIR, KIND_NAME, KIND_PATH, KIND_PREFIX,
    KIND_REQUESTED, KIND_SUFFIX, KINDS_ALLOW, MECHANISM_LSM, MECHANISM_SIGNAL, RULE_UNREADABLE,
    Source, Verdict, decide,
};

use crate::{
    applet::{self, UNREADABLE_ARGUMENTS},
    container::{self, Found},
    drift,
    field::{self, File, Origin, Place},
    lookup::{self, ALLOW, ANY_LENGTH, UNREADABLE, UNREADABLE_STRING, USER},
    report::{self, Asked, Name, Report},
    told::{self, ANOTHER_LOOK, AUDITED, BEHIND},
    walk,
};

/// Kinds that compare a name.
const NAMES: u32 = 1 << KIND_NAME | 1 << KIND_PREFIX | 1 << KIND_SUFFIX;
/// The same of an allow-list.
const ALLOWED_NAMES: u32 = 1 << KIND_ALLOW_NAME | 1 << KIND_ALLOW_PREFIX | 1 << KIND_ALLOW_SUFFIX;
/// Kinds that walk from the file to the root.
const PLACES: u32 = 1 << KIND_PATH | 1 << KIND_DIR;
/// The same of an allow-list.
const ALLOWED_PLACES: u32 = 1 << KIND_ALLOW_PATH | 1 << KIND_ALLOW_DIR;

/// What became of it.
#[derive(Clone, Copy)]
pub struct Conclusion {
    pub refused: bool,
    /// Another look at the same image came to it too.
    pub again: bool,
}

impl Conclusion {
    pub const ALLOWED: Self = Self {
        refused: false,
        again: false,
    };
}

/// One program that is about to run, before it is decided on.
pub struct Case<'a> {
    pub found: &'a Found,
    policy: u64,
    kinds: u64,
    findings: Findings,
    pub name: Name,
}

/// The new image of the current process.
pub struct Image {
    /// Address of the name given to exec.
    pub requested: u64,
    /// Address of the name of the last interpreter; the same where there is none.
    pub interp: u64,
    pub file: File,
    /// Address of the first argument; 0 where that is not known.
    pub arguments: u64,
    pub argc: u32,
}

impl<'a> Case<'a> {
    #[inline(always)]
    pub fn new(found: &'a Found) -> Self {
        Self {
            found,
            policy: u64::from(found.container.policy),
            kinds: u64::from(found.container.kinds),
            findings: Findings {
                denied: 0,
                source: 0,
                unlisted: 0,
                drifted: 0,
            },
            name: Name {
                address: 0,
                user: false,
                source: Source::Requested,
            },
        }
    }

    #[inline(always)]
    fn has(&self, kinds: u32) -> bool {
        self.kinds & u64::from(kinds) != 0
    }

    /// Takes an answer of a deny list; whether it denies. What could not be read
    /// counts as not found, which fails open, and is counted.
    #[inline(always)]
    fn denies(&mut self, rule: u64, name: Name) -> bool {
        if rule == UNREADABLE {
            report::count(|stats| &mut stats.unreadable);
            return false;
        }
        self.findings.denied = rule as u32;
        if rule != 0 {
            self.name = name;
        }
        rule != 0
    }

    /// Whether a name that was requested is denied.
    #[inline(always)]
    pub fn asked(&mut self, address: u64, how: u64) -> bool {
        let name = Name {
            address,
            user: how & USER != 0,
            source: Source::Requested,
        };
        if self.has(NAMES) {
            let rule = self.last_rule(address, lookup::base(address, how), how);
            if self.denies(rule, name) {
                return true;
            }
        }
        if self.has(1 << KIND_REQUESTED) {
            let rule = lookup::requested_rule(self.policy, address, how);
            return self.denies(rule, name);
        }
        false
    }

    /// The rule for the last component of a string, of which `base` was found out.
    #[inline(always)]
    fn last_rule(&self, address: u64, base: u64, how: u64) -> u64 {
        if base == UNREADABLE_STRING {
            return UNREADABLE;
        }
        let last = address + lookup::last(base);
        lookup::name_rule(self.policy, self.kinds, last, how | ANY_LENGTH)
    }

    /// Whether the file is denied by its name or its path. Sets the name.
    #[inline(always)]
    pub fn file(&mut self, file: &File) -> bool {
        let (address, len) = file.name();
        if self.file_name(address, len) {
            return true;
        }
        self.has(PLACES) && self.file_place(file.place())
    }

    /// As [`Self::file`], by address.
    #[inline(always)]
    pub fn place_by_name(&mut self, place: &Option<Place>) -> bool {
        match place.as_ref().and_then(Place::named) {
            Some((address, len)) if self.file_name(address, len) => return true,
            Some(_) => {}
            None => report::count(|stats| &mut stats.unreadable),
        }
        self.has(PLACES)
            && self.file_place(place.as_ref().map(|place| Place {
                dentry: place.dentry,
                vfsmount: place.vfsmount,
            }))
    }

    #[inline(always)]
    fn file_name(&mut self, address: u64, len: u32) -> bool {
        self.name = Name {
            address,
            user: false,
            source: Source::Resolved,
        };
        if !self.has(NAMES) {
            return false;
        }
        let rule = lookup::name_rule(self.policy, self.kinds, address, u64::from(len) << 32);
        self.denies(rule, self.name)
    }

    #[inline(always)]
    fn file_place(&mut self, place: Option<Place>) -> bool {
        let Some(place) = place else {
            report::count(|stats| &mut stats.unreadable);
            return false;
        };
        if self.has(1 << KIND_PATH) {
            let rule = walk::path_rule(
                lookup::of(self.policy, KIND_PATH),
                place.dentry,
                place.vfsmount,
            );
            if self.denies(rule, self.name) {
                return true;
            }
        }
        if self.has(1 << KIND_DIR) {
            let rule = walk::dir_rule(
                lookup::of(self.policy, KIND_DIR),
                place.dentry,
                place.vfsmount,
            );
            return self.denies(rule, self.name);
        }
        false
    }

    /// Whether an argument names a denied program: as `BusyBox` and the dynamic
    /// loader take it from there.
    #[inline(always)]
    pub fn applet(&mut self, image: &Image) -> bool {
        if !self.has(NAMES | 1 << KIND_REQUESTED) {
            return false;
        }
        let Some(arguments) = without_dash(image.arguments) else {
            report::count(|stats| &mut stats.unreadable);
            return false;
        };
        let base = lookup::base(arguments, USER);
        if base == UNREADABLE_STRING {
            return self.evades();
        }
        let first = Name {
            address: arguments,
            user: true,
            source: Source::Applet,
        };
        if image.argc != 0 {
            let rule = self.last_rule(arguments, base, USER);
            if self.denies(rule, first) {
                return true;
            }
        }
        // Where each mapping is looked at, the loader's own are refused one by one.
        let loader = match container::mechanism() {
            MECHANISM_LSM => 0,
            _ => applet::LOADER,
        };
        let (name, _) = image.file.name();
        let asked = applet::find(name, arguments, base, u64::from(image.argc) | loader);
        if asked == UNREADABLE_ARGUMENTS {
            return self.evades();
        }
        if asked == 0 {
            return false;
        }
        self.asked(asked, USER)
    }

    /// Closed: nobody calls a multi-call binary like this but to get by.
    #[inline(always)]
    fn evades(&mut self) -> bool {
        self.findings.denied = RULE_UNREADABLE;
        self.name.source = Source::Applet;
        true
    }

    /// Asks allow-list and drift.
    #[inline(always)]
    pub fn lists(&mut self, file: &File) {
        let Container { kinds, drift, .. } = *self.found.container;
        let listing = kinds & KINDS_ALLOW != 0;
        if !listing && drift == DRIFT_OFF {
            return;
        }
        let origin = file.origin();
        if drift::is_runtimes_own(self.found, &origin) {
            return;
        }
        let by_place = self.listed_place(file.place());
        if listing && !by_place {
            let (address, len) = file.name();
            self.findings.unlisted = u32::from(!self.listed_name(address, len));
        }
        if drift != DRIFT_OFF {
            self.findings.drifted = u32::from(drift::drifted(self.found, &origin, by_place));
        }
    }

    /// Asks drift about a mapping.
    #[inline(always)]
    pub fn mapping(&mut self, origin: &Option<Origin>, place: Option<Place>) {
        if drift::is_runtimes_mapping(self.found, origin) {
            return;
        }
        let listed = self.listed_place(place);
        self.findings.drifted = u32::from(drift::drifted(self.found, origin, listed));
    }

    /// Whether the allow-list has the file by its name. What can't be read is
    /// not in it, which fails closed, and is counted.
    #[inline(always)]
    fn listed_name(&self, address: u64, len: u32) -> bool {
        if !self.has(ALLOWED_NAMES) {
            return false;
        }
        is_rule(lookup::name_rule(
            self.policy,
            self.kinds,
            address,
            u64::from(len) << 32 | ALLOW,
        ))
    }

    /// The same by its path or by a directory above it.
    #[inline(always)]
    fn listed_place(&self, place: Option<Place>) -> bool {
        if !self.has(ALLOWED_PLACES) {
            return false;
        }
        let Some(place) = place else {
            report::count(|stats| &mut stats.unreadable);
            return false;
        };
        let (dentry, vfsmount) = (place.dentry, place.vfsmount);
        let path = self.has(1 << KIND_ALLOW_PATH)
            && is_rule(walk::path_rule(
                lookup::of(self.policy, KIND_ALLOW_PATH),
                dentry,
                vfsmount,
            ));
        path || self.has(1 << KIND_ALLOW_DIR)
            && is_rule(walk::dir_rule(
                lookup::of(self.policy, KIND_ALLOW_DIR),
                dentry,
                vfsmount,
            ))
    }

    /// As [`Self::conclude`], of an image that is in place.
    #[inline(always)]
    pub fn killed(self, image: &Image) -> Conclusion {
        self.conclude(
            MECHANISM_SIGNAL,
            Asked {
                requested: image.requested,
                user: false,
                resolved: image.file.name().0,
            },
            || image.arguments,
        )
    }

    /// Decides and reports. The first argument's address is asked for where there is
    /// something to report.
    #[inline(always)]
    pub fn conclude(
        self,
        mechanism: u32,
        asked: Asked,
        argument: impl FnOnce() -> u64,
    ) -> Conclusion {
        let (rule, refused) = match decide(self.found.container, self.findings) {
            Verdict::Allow => return Conclusion::ALLOWED,
            Verdict::Deny(rule) => (rule, true),
            Verdict::Audit(rule) => (rule, false),
        };
        let how = if asked.user { USER } else { 0 }
            | if refused { 0 } else { AUDITED }
            | if mechanism == MECHANISM_SIGNAL {
                BEHIND
            } else {
                0
            };
        let known = told::is_told(u64::from(rule), asked.requested, how);
        let conclusion = Conclusion {
            refused,
            again: known == ANOTHER_LOOK,
        };
        let told = known != 0;
        // Each attempt counts; but an audited program is one, whoever else sees it.
        if refused && mechanism != MECHANISM_SIGNAL {
            report::count(|stats| &mut stats.denied);
        } else if !refused && !told {
            report::count(|stats| &mut stats.audited);
        }
        if told {
            return conclusion;
        }
        report::hit(self.found.cgroup, u64::from(rule));
        report::event(&Report {
            cgroup: self.found.cgroup,
            policy: self.found.container.policy,
            rule,
            mechanism,
            refused,
            outside: self.found.outside,
            name: self.name,
            asked,
            argument: argument(),
        });
        conclusion
    }
}

/// A login shell's dash in front of the first argument, which `BusyBox` drops. `None` where
/// there is none to be read.
#[inline(always)]
fn without_dash(arguments: u64) -> Option<u64> {
    if arguments == 0 {
        return None;
    }
    Some(if field::user_byte(arguments)? == b'-' {
        arguments + 1
    } else {
        arguments
    })
}

/// Whether an answer of an allow-list is a rule.
#[inline(always)]
fn is_rule(answer: u64) -> bool {
    if answer == UNREADABLE || answer == u64::from(RULE_UNREADABLE) {
        report::count(|stats| &mut stats.unreadable);
        return false;
    }
    answer != 0
}
