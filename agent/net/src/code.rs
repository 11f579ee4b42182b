//! Memory of the program's own file: its code and its constants.

use std::fs;
use std::io;
use std::mem;
use std::ops::Range;
use std::path::Path;

use crate::sys;

/// Lets go of the memory of this program's code and constants. What is still needed comes back from the file's pages with
/// its next use, which costs microseconds; what only the start needs, such as reading settings, stays out.
///
/// # Errors
/// `/proc` (`proc(5)`) does not say where they are, or the kernel refuses (`madvise(2)`).
pub fn return_code_memory() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let smaps = fs::read_to_string("/proc/self/smaps")?;
    as_in_the_file(&smaps, &program).into_iter().try_for_each(sys::drop_file_pages)
}

/// The parts of the program's memory that are as its file has them, by `/proc/self/smaps`: they cannot be written to, and
/// no page of them was while they still could be, which would be anonymous now, or swapped out.
fn as_in_the_file(smaps: &str, program: &Path) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        match line.split_once(":  ") {
            None => found.extend(mem::replace(&mut current, part(line, program))),
            Some(("Anonymous" | "Swap", size)) if size.trim() != "0 kB" => current = None,
            Some(_) => {}
        }
    }
    found.extend(current);
    found
}

/// Where a part of the program's file is that cannot be written to, by the first line on it.
fn part(line: &str, program: &Path) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (range, rights) = (fields.next()?, fields.next()?);
    let path = fields.nth(3)?;
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = address(start)?..address(end)?;
    let own = Path::new(path) == program && matches!(rights, "r-xp" | "r--p");
    (own && !range.is_empty()).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: &str = "/usr/bin/podsonar";
    const CODE: Range<usize> = 0x40_1000..0xa0_2000;

    /// A part as the kernel describes it, so many kilobytes of which are anonymous and swapped out.
    fn described(first: &str, anonymous: u32, swapped: u32) -> String {
        format!(
            "{first}\nSize:                 80 kB\nPrivate_Dirty:         0 kB\nAnonymous: {anonymous:13} kB\n\
             Swap: {swapped:18} kB\nTHPeligible:           0\nVmFlags: rd mr mw me \n"
        )
    }

    fn found(smaps: &str) -> Vec<Range<usize>> {
        as_in_the_file(smaps, Path::new(PROGRAM))
    }

    #[test]
    fn what_cannot_be_written_to_is_as_in_the_file() {
        let constants = format!("00400000-00401000 r--p 00000000 08:02 173521    {PROGRAM}");
        let code = format!("00401000-00a02000 r-xp 00001000 08:02 173521    {PROGRAM}");
        let smaps = described(&constants, 0, 0) + &described(&code, 0, 0);
        assert_eq!(found(&smaps), [0x40_0000..0x40_1000, CODE]);
    }

    #[test]
    fn what_was_written_to_is_not() {
        let pointers = format!("00400000-00401000 r--p 00000000 08:02 173521    {PROGRAM}");
        let code = format!("00401000-00a02000 r-xp 00001000 08:02 173521    {PROGRAM}");
        for (anonymous, swapped) in [(4, 0), (0, 4), (8, 4)] {
            let smaps = described(&pointers, anonymous, swapped) + &described(&code, 0, 0);
            assert_eq!(found(&smaps), vec![CODE]);
        }
    }

    #[test]
    fn other_memory_is_left_alone() {
        for rest in [
            "rw-p 00001000 08:02 173521    /usr/bin/podsonar",
            "rwxp 00001000 08:02 173521    /usr/bin/podsonar",
            "r-xs 00001000 08:02 173521    /usr/bin/podsonar",
            "r-xp 00001000 08:02 173522    /usr/lib/libc.so.6",
            "r-xp 00000000 00:00 0         [vdso]",
            "r--p 00000000 00:00 0",
            "r-xp",
        ] {
            assert_eq!(found(&described(&format!("00401000-00a02000 {rest}"), 0, 0)), [], "{rest}");
        }
        assert_eq!(found(""), []);
        assert_eq!(found(&format!("zz-00a02000 r-xp 00001000 08:02 173521    {PROGRAM}")), []);
    }

    #[test]
    fn what_is_needed_again_comes_back() {
        return_code_memory().unwrap();
        assert_eq!(found(""), [], "code still runs");
        assert_eq!(PROGRAM.len(), 17, "constants are still there");
    }
}
