# Runs an operator's script in the root directory of an image that is being built, and in nothing else.
#
#   hook.pl ROOT    the script is ROOT/run/anteroom-hook
#
# It is started by `unshare` in namespaces of its own (user, mount, process, IPC, host name, and network unless the script may use it).
# The script sees ROOT as `/`, with /dev/null, /dev/zero, /dev/urandom and, where the kernel allows it, /proc. It inherits no open file,
# no variable and no capability that leads out of ROOT, and cannot gain one. Its output goes to standard error.
use strict;
use warnings;
use POSIX ();

# Numbers of system calls on x86-64, and constants of the kernel.
my ($SYS_mount, $SYS_pivot_root, $SYS_umount2, $SYS_prctl) = (165, 155, 166, 157);
my ($MS_NOSUID, $MS_NODEV, $MS_NOEXEC, $MS_BIND, $MS_REC, $MS_PRIVATE) = (2, 4, 8, 4096, 16384, 1 << 18);
my ($MNT_DETACH, $PR_CAPBSET_DROP, $PR_SET_NO_NEW_PRIVS) = (2, 24, 38);
# chown, dac_override, fowner, fsetid, setgid, setuid, setfcap: what installers use inside of ROOT.
my %KEPT = map { $_ => 1 } (0, 1, 3, 4, 6, 7, 31);
my $CAPABILITY_MAX = 63;

sub fail { print STDERR "the hook cannot be confined: $_[0]: $!\n"; POSIX::_exit(125) }

sub mount {
    my ($from, $to, $type, $flags) = @_;
    return syscall($SYS_mount, $from, $to, $type, $flags, 0) == 0;
}

my ($root) = @ARGV;
defined $root && -d $root && chdir $root or fail("the root directory");
mount("none", "/", "none", $MS_REC | $MS_PRIVATE) or fail("mounts of its own");
mount($root, $root, "none", $MS_BIND | $MS_REC) or fail("the root directory");
chdir $root or fail("the root directory");
-d "dev" or mkdir "dev" or fail("/dev");
mount("tmpfs", "dev", "tmpfs", $MS_NOSUID | $MS_NOEXEC) or fail("/dev");
for my $name (qw(null zero urandom)) {
    open my $file, ">", "dev/$name" or fail("/dev/$name");
    close $file;
    mount("/dev/$name", "dev/$name", "none", $MS_BIND) or fail("/dev/$name");
}
# Refused below another container; a script that needs it says so.
mount("proc", "proc", "proc", $MS_NOSUID | $MS_NODEV | $MS_NOEXEC) if -d "proc";
# `syscall` takes variables as texts.
my ($here, $old) = (".", ".");
syscall($SYS_pivot_root, $here, $old) == 0 or fail("pivot_root");
syscall($SYS_umount2, $old, $MNT_DETACH) == 0 or fail("the file systems of this host");
chdir "/" or fail("/");

open STDIN, "<", "/dev/null" or fail("standard input");
open STDOUT, ">&", \*STDERR or fail("standard output");
POSIX::close($_) for 3 .. 1023;
for my $capability (0 .. $CAPABILITY_MAX) {
    # Numbers above the kernel's last capability are refused.
    syscall($SYS_prctl, $PR_CAPBSET_DROP, $capability, 0, 0, 0) unless $KEPT{$capability};
}
syscall($SYS_prctl, $PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 or fail("no_new_privs");
%ENV = (PATH => "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME => "/root", LC_ALL => "C", DEBIAN_FRONTEND => "noninteractive");
{ no warnings "exec"; exec { "/run/anteroom-hook" } "anteroom-hook" }
print STDERR "the hook cannot be run: $!: the interpreter of its first line is not in the image's packages\n";
POSIX::_exit(126);
