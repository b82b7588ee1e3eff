//! From a hook's arguments to its verdict: the container, and the program as that hook
//! has it. Decided first, reported after.

use plugin_common::{DRIFT_OFF, MECHANISM_KPROBE, MECHANISM_SIGNAL, Source};

use crate::{
    applet,
    case::{Case, Conclusion, Image},
    container,
    field::{Bprm, File, Mapping, Place, Record, Task},
    lookup::USER,
    report::{self, Asked},
};

/// Behind the kernel's own lookup, at one level of interpreters: its name and
/// its file.
#[inline(always)]
pub fn level(bprm: &Bprm, mechanism: u32) -> bool {
    let Some(found) = container::tagged(mechanism) else {
        return false;
    };
    report::count(|stats| &mut stats.checked);
    let mut case = Case::new(&found);
    let file = bprm.file();
    if !case.asked(bprm.interp(), 0) && !case.file(&file) {
        case.lists(&file);
    }
    case.conclude(
        mechanism,
        Asked {
            requested: bprm.filename(),
            user: false,
            resolved: file.name().0,
        },
        || report::called_as(),
    )
    .refused
}

/// When the new image is in place, and only the last level is left: the name
/// given to exec, the name of the last interpreter, its file, its arguments.
#[inline(always)]
pub fn image(bprm: &Bprm) -> Conclusion {
    in_place(|| {
        Some(Image {
            requested: bprm.filename(),
            interp: bprm.interp(),
            file: bprm.file(),
            arguments: of_image(),
            argc: bprm.argc(),
        })
    })
}

/// The same where only the process is at hand: of a script the interpreter's name is not,
/// but it is the first argument.
#[inline(always)]
pub fn image_of_task(record: &Record) -> Conclusion {
    in_place(|| {
        let task = Task::current();
        let arguments = of_image();
        Some(Image {
            requested: record.filename(),
            interp: record.filename(),
            file: task.image()?,
            arguments,
            argc: applet::count(arguments, task.arguments_end()) as u32,
        })
    })
}

#[inline(always)]
fn in_place(image: impl FnOnce() -> Option<Image>) -> Conclusion {
    let Some(found) = container::tagged(MECHANISM_SIGNAL) else {
        return Conclusion::ALLOWED;
    };
    report::count(|stats| &mut stats.checked);
    let Some(image) = image() else {
        // Fails open.
        report::count(|stats| &mut stats.unreadable);
        return Conclusion::ALLOWED;
    };
    let mut case = Case::new(&found);
    if !case.asked(image.requested, 0)
        && !(image.interp != image.requested && case.asked(image.interp, 0))
        && !case.file(&image.file)
        && !case.applet(&image)
    {
        case.lists(&image.file);
    }
    case.killed(&image)
}

/// Behind [`level`], which saw all but the arguments: these are where the kernel has
/// put them together, at the top of the new memory.
#[inline(always)]
pub fn called(bprm: &Bprm) -> Conclusion {
    let Some(found) = container::tagged(MECHANISM_SIGNAL) else {
        return Conclusion::ALLOWED;
    };
    report::count(|stats| &mut stats.checked);
    let mut case = Case::new(&found);
    let image = Image {
        requested: bprm.filename(),
        interp: 0,
        file: bprm.file(),
        arguments: bprm.arguments(),
        argc: bprm.argc(),
    };
    case.applet(&image);
    case.killed(&image)
}

/// At the syscall: the address of a name in user memory.
#[inline(always)]
pub fn syscall(address: u64) -> bool {
    let Some(found) = container::tagged(MECHANISM_KPROBE) else {
        return false;
    };
    report::count(|stats| &mut stats.checked);
    let mut case = Case::new(&found);
    case.asked(address, USER);
    case.conclude(
        MECHANISM_KPROBE,
        Asked {
            requested: address,
            user: true,
            resolved: 0,
        },
        || report::called_as(),
    )
    .refused
}

/// Address of the first argument of the image that is in place.
#[inline(always)]
fn of_image() -> u64 {
    match Task::current().arguments() {
        Some(address) => address,
        None => 0,
    }
}

/// A file that is about to be mapped executable.
#[inline(always)]
pub fn mapped(file: &File, mechanism: u32) -> bool {
    let Some(found) = container::tagged(mechanism) else {
        return false;
    };
    // By the kernel, of the program that is being executed: that one was looked at,
    // or is when it is complete.
    if Task::current().is_executing(file) {
        return false;
    }
    let mut case = Case::new(&found);
    if !case.file(file) && found.container.drift != DRIFT_OFF {
        case.mapping(&file.origin(), file.place());
    }
    case.name.source = Source::Mapped;
    let mapped = case.name.address;
    case.conclude(
        mechanism,
        Asked {
            requested: 0,
            user: false,
            resolved: mapped,
        },
        of_image,
    )
    .refused
}

/// A mapping that is about to become executable.
#[inline(always)]
pub fn protected(mapping: &Mapping, mechanism: u32) -> bool {
    let Some(file) = mapping.file() else {
        return false;
    };
    let Some(found) = container::tagged(mechanism) else {
        return false;
    };
    let mut case = Case::new(&found);
    let place = file.users_place(found.container.root_dev);
    if !case.place_by_name(&place) && found.container.drift != DRIFT_OFF {
        case.mapping(&place.as_ref().and_then(Place::origin), place);
    }
    case.name.source = Source::Mapped;
    let mapped = case.name.address;
    case.conclude(
        mechanism,
        Asked {
            requested: 0,
            user: false,
            resolved: mapped,
        },
        of_image,
    )
    .refused
}
