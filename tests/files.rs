//! File contents: through the window, through a window that is too small, and without one; and changes by the host.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;

use crate::data;
use crate::each_platform;
use crate::outcome::Outcome;

/// Windows that hold any file of these tests, that hold a part, and none.
const WINDOWS: [&str; 3] = ["2G", "16M", "0"];

each_platform! {
    fn cat_of_a_big_file_is_the_file(on) {
        let folder = data::folder();
        let path = data::random_file(folder.path(), "big", on.big_file() + 4097);
        for window in windows(on) {
            let outcome = on.run(&["/bin/cat", "big"]).data(folder.path()).option(window).outcome().expect_status(0);
            assert!(outcome.stdout == fs::read(&path).unwrap(), "{window:?}: not the same bytes");
        }
    }

    fn sha256sum_of_a_big_file_is_the_hosts(on) {
        let folder = data::folder();
        data::random_file(folder.path(), "big", on.big_file() + 1);
        for window in windows(on) {
            let vm = on.run(&["/usr/bin/sha256sum", "big"]).data(folder.path()).option(window);
            vm.same_as_host();
        }
    }

    fn a_mapped_file_is_the_file(on) {
        let folder = data::folder();
        data::random_file(folder.path(), "big", 40 * 1024 * 1024 + 123);
        let script = "import mmap,hashlib; f=open('big','rb'); m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ); \
                      print(len(m), hashlib.sha256(m).hexdigest(), m[-3:].hex())";
        for window in windows(on) {
            on.run(&["/usr/bin/python3", "-c", script]).data(folder.path()).option(window).same_as_host();
        }
    }

    fn reads_at_odd_places_are_exact(on) {
        let folder = data::folder();
        data::random_file(folder.path(), "big", 9 * 1024 * 1024 + 7);
        let script = "import os,hashlib; f=os.open('big',os.O_RDONLY); h=hashlib.sha256(); s=12345\n\
                      for i in range(400):\n  s=(s*1103515245+12345)%2**31; h.update(os.pread(f, s%70000, s*7%9500000))\n\
                      print(h.hexdigest())";
        for window in windows(on) {
            on.run(&["/usr/bin/python3", "-c", script]).data(folder.path()).option(window).same_as_host();
        }
    }

    fn a_file_changed_by_the_host_is_seen_changed(on) {
        for window in windows(on) {
            let folder = data::folder();
            let path = data::file(folder.path(), "news", "old news\n".repeat(1000).as_bytes());
            let script = "import os,sys\nf=os.open('news',os.O_RDONLY)\n\
                          for _ in range(3):\n  print(os.pread(f,8,4500).decode(), len(open('news').read()), flush=True)\n  sys.stdin.readline()";
            let vm = on.run(&["/usr/bin/python3", "-c", script]).data(folder.path()).option(window).option(&["--cache", "none"]);
            let mut child = vm.start();
            let (mut to, mut from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
            let mut next = || {
                let mut line = String::new();
                from.read_line(&mut line).unwrap();
                line
            };
            assert_eq!(next(), "old news 9000\n", "{window:?}");
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at("NEW".as_bytes(), 4500).unwrap();
            to.write_all(b"\n").unwrap();
            assert_eq!(next(), "NEW news 9000\n", "{window:?}");
            file.write_all_at(b"appended", 9000).unwrap();
            to.write_all(b"\n").unwrap();
            assert_eq!(next(), "NEW news 9008\n", "{window:?}");
            drop(to);
            Outcome::of(child, on.patience()).expect_status(0);
        }
    }
}

/// The options to try: three windows where there is one, none where there is none.
fn windows(on: crate::platform::Platform) -> Vec<&'static [&'static str]> {
    static OPTIONS: [[&str; 2]; 3] =
        [["--dax-window", WINDOWS[0]], ["--dax-window", WINDOWS[1]], ["--dax-window", WINDOWS[2]]];
    match on {
        crate::platform::Platform::Kvm => OPTIONS.iter().map(|option| &option[..]).collect(),
        crate::platform::Platform::Qemu => vec![&[]],
    }
}
