//! What is not as it came with the image.

use super::technique::Expect::{self, Escapes, Held};
use super::technique::Needs::{Admin, Nothing};
use super::technique::Policy::{self, Drift, DriftName, DriftVolume};
use super::technique::Technique;
use super::technique::against::LAST_ONLY;

const MOUNTED: &str = "what is mounted on a folder that the list admits is admitted: whoever may mount widens the list";
const BOTH: &[(Policy, Expect)] = &[(Drift, Held), (DriftName, Held)];
/// What an allow-list admits from volumes does not admit these.
const ALL: &[(Policy, Expect)] = &[(Drift, Held), (DriftName, Held), (DriftVolume, Held)];

pub(super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "chmod",
        about: "a program of the image whose mode was changed",
        needs: Nothing,
        script: "chmod 755 /opt/victim/chmod; /opt/victim/chmod",
        against: ALL,
    },
    Technique {
        name: "touch",
        about: "a program of the image whose time was changed",
        needs: Nothing,
        script: "touch /opt/victim/touch; /opt/victim/touch",
        against: ALL,
    },
    Technique {
        name: "append",
        about: "a program of the image that was appended to",
        needs: Nothing,
        script: "echo >>/opt/victim/append; /opt/victim/append",
        against: ALL,
    },
    Technique {
        name: "hard-link",
        about: "a program of the image that got a second name",
        needs: Nothing,
        script: "ln /opt/victim/link other; ./other",
        against: ALL,
    },
    Technique {
        name: "rename",
        about: "a program of the image that got another name",
        needs: Nothing,
        script: "mv /opt/victim/rename other; ./other",
        against: ALL,
    },
    Technique {
        name: "replace",
        about: "a program moved over one of the image",
        needs: Nothing,
        script: "cp /opt/static/other other; mv other /opt/victim/replace; \
                 /opt/victim/replace",
        against: ALL,
    },
    Technique {
        name: "opened-before",
        about: "a copied-up file, by a descriptor that is older than its change",
        needs: Nothing,
        script: "exec 5</opt/victim/opened; echo >>/opt/victim/opened; /proc/self/fd/5; \
                 /opt/victim/opened",
        against: BOTH,
    },
    Technique {
        name: "made-executable",
        about: "a file of the image that was no program",
        needs: Nothing,
        script: "printf \"#!/bin/sh\\necho EVASION-MARK\\n\" >/etc/passwd-; chmod +x \
                 /etc/passwd-; /etc/passwd-",
        against: &[(Drift, LAST_ONLY), (DriftName, LAST_ONLY)],
    },
    Technique {
        name: "tmpfs",
        about: "a copy on a tmpfs of its own",
        needs: Admin,
        script: "mkdir t; mount -t tmpfs t t && cp /opt/static/other t && t/other",
        against: ALL,
    },
    Technique {
        name: "tmpfs-on-folder",
        about: "a tmpfs mounted on a folder of the image",
        needs: Admin,
        script: "cp /opt/static/other x; mount -t tmpfs t /opt/empty && cp x \
                 /opt/empty/x && /opt/empty/x; umount /opt/empty",
        against: &[
            (Drift, Held),
            (DriftName, Held),
            (DriftVolume, Escapes(MOUNTED)),
        ],
    },
    Technique {
        name: "tmpfs-on-listed",
        about: "a tmpfs mounted on a folder that the allow-list admits",
        needs: Admin,
        script: "cp /opt/static/other x; mount -t tmpfs t /opt/ok && cp x /opt/ok/x && \
                 unshare -m /opt/ok/x; umount /opt/ok",
        against: BOTH,
    },
    Technique {
        name: "ramfs",
        about: "a copy on a ramfs",
        needs: Admin,
        script: "mkdir t; mount -t ramfs t t && cp /opt/static/other t && t/other",
        against: BOTH,
    },
    Technique {
        name: "volume",
        about: "a program on a volume",
        needs: Nothing,
        script: "/vol/other/tool",
        against: &[(Drift, Held), (DriftName, Held), (DriftVolume, Held)],
    },
    Technique {
        name: "volume-script",
        about: "a script on a volume, its interpreter of the image",
        needs: Nothing,
        script: "/vol/other/script",
        against: &[
            (Drift, LAST_ONLY),
            (DriftName, LAST_ONLY),
            (DriftVolume, LAST_ONLY),
        ],
    },
    Technique {
        name: "volume-bind",
        about: "a folder of a volume, mounted on one of the image",
        needs: Admin,
        script: "mount --bind /vol/other /opt/empty && /opt/empty/tool; umount /opt/empty",
        against: &[
            (Drift, Held),
            (DriftName, Held),
            (DriftVolume, Escapes(MOUNTED)),
        ],
    },
    Technique {
        name: "volume-link",
        about: "a link on the image's folder to a program on a volume",
        needs: Nothing,
        script: "ln -s /vol/other/tool link; ./link",
        against: ALL,
    },
    Technique {
        name: "disk",
        about: "the machine's disk, mounted, by a name",
        needs: Admin,
        script: "for b in /dev/vda /dev/vdb /dev/vdc; do mkdir -p m; mount -t ext4 -o ro \
                 $b m 2>/dev/null && break; done; ls m/* >/dev/null 2>&1 || echo N/A no \
                 disk to mount; if [ -x m/usr/bin/whoami ]; then chroot m \
                 /usr/bin/whoami; else /$D/m/helpers/marker-static; fi",
        against: ALL,
    },
    Technique {
        name: "deleted",
        about: "a program of the image that was deleted while it was open",
        needs: Nothing,
        script: "exec 5</opt/victim/deleted; rm /opt/victim/deleted; /proc/self/fd/5",
        against: ALL,
    },
];
