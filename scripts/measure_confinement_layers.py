#!/usr/bin/env python3
"""Measures what each layer of a VMM's confinement costs at a start, from the system calls that keepers make.

Usage, as root: measure_confinement_layers.py COMMAND…
COMMAND starts machines, for example the example `confinement_costs` of crates/machine. Prints the median and the 95th percentile of
each layer in milliseconds. The kernel's tracing adds about a microsecond to each system call.
"""

import collections
import pathlib
import re
import subprocess
import sys
import tempfile

TRACING = pathlib.Path("/sys/kernel/tracing")
KEEPER = "anteroom-keeper"
EVENT = re.compile(r"-(?P<pid>\d+)\s+\[\d+\].*?(?P<at>\d+\.\d+): sys_(?P<side>enter|exit): NR (?P<number>-?\d+) (?P<rest>.*)")

# Numbers on x86_64.
CLONE, WAIT, CLOSE_RANGE, MOUNT, PIVOT_ROOT, UNMOUNT, CHDIR = {56, 435}, 61, 436, 165, 155, 166, 80
PRLIMIT, SECCOMP, IOCTL, EXECVEAT, SENDMSG = 302, 317, 16, 322, 46
USER, CAPSET, PRCTL = {116, 117, 119}, 126, 157
LANDLOCK_MAKE, LANDLOCK_RESTRICT = {444, 445}, 446
# A file is sent with its own request, which can answer as well.
NOTIFICATION_RECEIVE, NOTIFICATION_ANSWERS = "c0502100", ("c0182101", "40182103")


class Call:
    def __init__(self, pid, number, entered, arguments):
        self.pid, self.number, self.entered, self.arguments, self.left = pid, number, entered, arguments, entered

    @property
    def ms(self):
        return (self.left - self.entered) * 1_000


def record(command):
    """Runs the command; returns the keepers' system calls in order of their start."""
    if not (TRACING / "instances").is_dir():
        subprocess.run(["mount", "-t", "tracefs", "none", TRACING], check=True)
    instance = TRACING / "instances" / "anteroom"
    instance.mkdir(exist_ok=True)
    try:
        (instance / "buffer_size_kb").write_text("8192")
        for side in ("enter", "exit"):
            event = instance / "events" / "raw_syscalls" / f"sys_{side}"
            (event / "filter").write_text(f'comm == "{KEEPER}"')
            (event / "enable").write_text("1")
        with tempfile.TemporaryFile("w+") as output:
            reader = subprocess.Popen(["cat", instance / "trace_pipe"], stdout=output)
            try:
                subprocess.run(command, check=True)
            finally:
                reader.terminate()
                reader.wait()
            output.seek(0)
            return parse(output)
    finally:
        for side in ("enter", "exit"):
            (instance / "events" / "raw_syscalls" / f"sys_{side}" / "enable").write_text("0")
        instance.rmdir()


def parse(lines):
    calls, open_calls = [], {}
    for line in lines:
        event = EVENT.search(line)
        if not event:
            continue
        pid, at, number = int(event["pid"]), float(event["at"]), int(event["number"])
        if event["side"] == "enter":
            call = Call(pid, number, at, event["rest"])
            open_calls[pid] = call
            calls.append(call)
        elif pid in open_calls and open_calls[pid].number == number:
            call = open_calls.pop(pid)
            call.left = at
            call.result = event["rest"].removeprefix("= ")
    return calls


def layers_of_start(calls, child):
    """The milliseconds of each layer, or None if `child` is not a confined VMM."""
    own = [call for call in calls if call.pid == child]
    steps = collections.defaultdict(list)
    for call in own:
        steps[call.number].append(call)
    if not (steps[PIVOT_ROOT] and steps[SECCOMP] and steps[EXECVEAT]):
        return None
    fork = next(call for call in calls if call.number in CLONE and getattr(call, "result", "") == str(child))
    keeper = [call for call in calls if call.pid == fork.pid]
    before = [call for call in keeper if call.left <= fork.entered]
    after = [call for call in keeper if call.entered >= fork.left]
    root_dir = steps[MOUNT][0].entered, next(call for call in steps[CHDIR] if call.entered > steps[UNMOUNT][0].left).left
    answers = []
    for call in after:
        if call.number == IOCTL and NOTIFICATION_RECEIVE in call.arguments:
            answers.append((call, call))
        elif call.number == IOCTL and answers and any(answer in call.arguments for answer in NOTIFICATION_ANSWERS):
            answers[-1] = (answers[-1][0], call)
    unmount = [call for call in after if call.number in CLONE]
    unmounted = [call for call in after if unmount and call.number == WAIT and call.entered > unmount[-1].entered]

    def total(calls, numbers):
        return sum(call.ms for call in calls if call.number in numbers)

    return {
        "namespaces (the new process)": fork.ms,
        "user": total(own, USER | {CAPSET}),
        "root directory": (root_dir[1] - root_dir[0]) * 1_000,
        "root directory emptied after the start": (unmounted[0].left - unmount[-1].entered) * 1_000 if unmounted else 0,
        "resource limits": total(own, {PRLIMIT}),
        "Landlock": total(before, LANDLOCK_MAKE) + total(own, {LANDLOCK_RESTRICT}),
        "system calls: the list": total(own, {SECCOMP, SENDMSG}),
        "system calls: answers of the keeper": sum((answer.left - received.entered) * 1_000 for received, answer in answers),
        "OOM order, cgroup (files of the keeper before the start)": total(
            [call for call in before if call.entered > before[-1].entered - 0.05], {0, 1, 2, 3, 83, 257}
        ),
        "number of answers": len(answers),
    }


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    calls = record(sys.argv[1:])
    starts = [found for child in sorted({call.pid for call in calls}) if (found := layers_of_start(calls, child))]
    if not starts:
        sys.exit("no start of a confined VMM was seen: does the command start machines, and do you run as root?")
    print(f"{len(starts)} starts of a confined VMM, ms{'p50':>46}{'p95':>8}")
    for layer in starts[0]:
        values = sorted(start[layer] for start in starts)
        print(f"{layer:60}{values[len(values) // 2]:12.3f}{values[int((len(values) - 1) * 0.95)]:8.3f}")


if __name__ == "__main__":
    main()
