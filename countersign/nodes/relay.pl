# Relays stdin and stdout to the unix socket that the argument names; the end of either is passed on.
use strict;
use Socket;
my $there;
socket($there, PF_UNIX, SOCK_STREAM, 0) && connect($there, sockaddr_un($ARGV[0])) or die "$ARGV[0]: $!\n";
sub copy {
    my ($from, $to) = @_;
    while (my $count = sysread($from, my $chunk, 65536)) {
        my $sent = 0;
        $sent += syswrite($to, $chunk, $count - $sent, $sent) || return while $sent < $count;
    }
}
my $child = fork // die "fork: $!\n";
if (!$child) {
    copy(\*STDIN, $there);
    shutdown($there, 1);
    exit;
}
copy($there, \*STDOUT);
kill 'KILL', $child;
