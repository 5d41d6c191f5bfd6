#!/bin/sh
# PID 1 of the virtual machine (run.sh). /export is served by NFSv4.2 and mounted on /data: what is
# done in /export is what another host does. Lines that begin with `rig| ` are for whoever runs the
# rig.

/bin/busybox --install -s /bin
export PATH=/bin:/sbin LD_LIBRARY_PATH=/lib
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /run
mount -t tmpfs none /tmp

say() { echo "rig| $*"; }
uptime_s() { cut -d. -f1 /proc/uptime; }
off() {
    sync
    poweroff -f
}

# ── a server, and a client of it ──
depmod
ip link set lo up
modprobe nfsd
modprobe nfsv4
mkdir -p /export /data /var/lib/nfs/v4recovery /run/store
touch /etc/exports /var/lib/nfs/etab /var/lib/nfs/rmtab
mount -t tmpfs none /export
mount -t nfsd none /proc/fs/nfsd
# After a restart the server waits so long for clients that it knew; 90 s otherwise.
echo 10 >/proc/fs/nfsd/nfsv4leasetime
echo 10 >/proc/fs/nfsd/nfsv4gracetime
exportfs -o rw,no_root_squash,insecure,fsid=0,no_subtree_check '*:/export' || { say "no export"; off; }
rpc.mountd --no-nfs-version 3 || { say "no mountd"; off; }
server_up() { rpc.nfsd --no-nfs-version 3 8; }
server_down() { echo 0 >/proc/fs/nfsd/threads; }
server_up || { say "no nfsd"; off; }
mount -t nfs4 -o vers=4.2,proto=tcp,addr=127.0.0.1,clientaddr=127.0.0.1,hard 127.0.0.1:/ /data || { say "no mount"; dmesg | tail -20; off; }
grep -q ' /data nfs4 .*vers=4.2' /proc/mounts || { say "another version"; grep /data /proc/mounts; off; }

# What is told to the service manager, each with its time: syslogd listens on a datagram socket as
# systemd does.
syslogd -n -O /run/notified &
export NO_COLOR=1

# ── as in the other rigs ──
passed=0
failed=0
within() { # SECONDS WHAT COMMAND...
    limit=$(($(uptime_s) + $1))
    what=$2
    seconds=$1
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ "$(uptime_s)" -gt "$limit" ]; then
            echo "not within $seconds s: $what"
            exit 1
        fi
        usleep 50000
    done
}
expect() {
    what=$1
    shift
    "$@" >/dev/null 2>&1 || { echo "$what"; exit 1; }
}
not() { ! "$@"; }
check() {
    began=$(uptime_s)
    # What it says goes by a file, and its end by its exit code.
    if ("$1") >/run/check.out 2>&1; then
        passed=$((passed + 1))
        say "ok     $(echo "$1" | tr _ ' ') ($(($(uptime_s) - began)) s)"
        sed 's/^/rig|       /' /run/check.out
    else
        failed=$((failed + 1))
        say "FAILED $(echo "$1" | tr _ ' ') ($(($(uptime_s) - began)) s)"
        sed 's/^/rig|       /' /run/check.out
        tail -15 /run/ship.log | cut -c1-250 | sed 's/^/rig|       | /'
    fi
}

start_shipper() {
    printf '[shipper]\ndisk_timeout_s = 4\n' >/run/ship.toml
    WATCHDOG_USEC=3000000 NOTIFY_SOCKET=/dev/log /rig/sealift ship --config /run/ship.toml --data /data --receiver http://127.0.0.1:8490 2>>/run/ship.log &
    echo $! >/run/ship.pid
}
start_receiver() {
    # The guest's memory is smaller than what a receiver otherwise keeps free.
    printf '[receive]\nmin_free_bytes = 16777216\n' >/run/receive.toml
    /rig/receiver receive --config /run/receive.toml --listen 127.0.0.1:8490 --store /run/store 2>/run/receive.log 3<&- &
    echo $! >/run/receive.pid
    within 30 "the receiver listens" grep -q local_addr= /run/receive.log
}
alive() { kill -0 "$(cat /run/ship.pid)"; }
log_says() { grep -qF -- "$1" /run/ship.log; }
# As the server has it: its word is not kept in any cache of ours.
shipped() { [ -f "/export/shipped/$1/shipping_receipt.json" ]; }
stored() { [ -f "/run/store/episodes/$1.tar.zst" ]; }
beats() { grep -c WATCHDOG=1 /run/notified; }
record() { # FOLDER ID: sealed, and all at once
    mkdir "$1/episodes/.$2"
    echo "note of $2" >"$1/episodes/.$2/note.txt"
    dd if=/dev/urandom of="$1/episodes/.$2/noise.bin" bs=1k count=200 2>/dev/null
    : >"$1/episodes/.$2/done.marker"
    mv "$1/episodes/.$2" "$1/episodes/$2"
}

# ── the checks ──
auto_looks_around_and_touches_nothing_of_inotify() {
    start_shipper
    within 30 "it is ready" grep -q READY=1 /run/notified
    expect "it relies on events" log_says "Looking every 5 s for new episodes: events cannot be trusted on NFS"
    record /data here
    within 30 "an episode of this host is shipped" shipped here
    expect "the receiver does not hold it" stored here
    ls -l "/proc/$(cat /run/ship.pid)/fd" >/run/fds
    expect "it has a descriptor of inotify" not grep -q inotify /run/fds
}

an_episode_of_another_host_is_found() {
    # This client has just seen that there is no marker.
    mkdir /data/episodes/there
    expect "the folder is seen" ls /data/episodes/there
    echo note >/export/episodes/there/note.txt
    : >/export/episodes/there/done.marker
    # An attribute cache may keep that for a minute (acdirmax, nfs(5)).
    within 80 "an episode of another host is shipped" shipped there
    expect "it is gone from episodes/" not test -e /export/episodes/there
}

a_name_that_is_taken_is_numbered_though_the_server_knows_no_noreplace() {
    # A plain rename(2) onto an empty folder would take its place.
    mkdir /export/shipped/twice
    record /data twice
    within 40 "it is shipped beside its namesake" shipped twice~1
    expect "the namesake is not what it was" not ls /export/shipped/twice/*
}

what_cannot_be_as_it_was_is_quarantined() {
    mkdir /data/episodes/.torn
    echo one >/data/episodes/.torn/a
    /rig/sealift seal /data/episodes/.torn >/dev/null
    echo two >/data/episodes/.torn/a
    mv /data/episodes/.torn /data/episodes/torn
    within 40 "the reason" test -f /export/quarantine/torn/quarantine_reason.json
    expect "it is gone from episodes/" not test -e /export/episodes/torn
}

a_file_that_is_removed_while_somebody_reads_it_stands_in_nobodys_way() {
    kill "$(cat /run/receive.pid)"
    record /data read
    within 40 "its archive waits" test -f /data/outbox/read.tar.zst
    exec 3</data/outbox/read.tar.zst
    # Opened for certain, and by this client.
    dd bs=1 count=1 <&3 >/dev/null 2>&1
    start_receiver
    # The pauses between tries have grown to some seconds.
    within 120 "it is shipped" shipped read
    within 20 "the archive is unlinked" not test -e /export/outbox/read.tar.zst
    nfs_file() { ls -a /export/outbox | grep '^\.nfs'; }
    expect "no .nfs file: the archive was not removed while it was open" nfs_file
    record /data meanwhile
    within 40 "others go on" shipped meanwhile
    expect "the .nfs file was meddled with" nfs_file
    exec 3<&-
    within 20 "the .nfs file goes with its last reader" not nfs_file
}

a_second_daemon_is_refused() {
    code=0
    /rig/sealift ship --data /data --receiver http://127.0.0.1:8490 2>/run/second.log || code=$?
    expect "exit code $code" test $code = 1
    expect "$(cat /run/second.log)" grep -q "ships this folder already" /run/second.log
}

a_server_that_is_gone_stops_the_heart_and_loses_nothing() {
    record /data lost-1
    within 40 "lost-1 is shipped" shipped lost-1
    # Of what a slow machine has had the log say before, nothing counts.
    said=$(grep -c 'has not moved for .* No sign of life' /run/ship.log)
    server_down
    gone=$(uptime_s)
    # What was recorded elsewhere meanwhile.
    record /export lost-2
    says_more() { [ "$(grep -c 'has not moved for .* No sign of life' /run/ship.log)" -gt "$said" ]; }
    within 60 "the log names what hangs" says_more
    echo "$(grep "No sign of life" /run/ship.log | grep -o "[a-z/ ]* has not moved for [0-9]* s" | sed -n "$((said + 1))p"), said $(($(uptime_s) - gone)) s after the server went"
    had=$(beats)
    now=$(uptime_s)
    past() { [ "$(uptime_s)" -ge $((now + 10)) ]; }
    # Three times the watchdog's patience.
    within 20 "time goes by" past
    expect "the heart beats on: $had, then $(beats)" test "$(beats)" = "$had"
    expect "the status does not say so" grep -q 'STATUS=.*HUNG' /run/notified
    expect "it has ended" alive
    server_up
    within 120 "the log says that it goes on" log_says "moves again, or is over"
    within 120 "lost-2 is shipped" shipped lost-2
    beats_again() { [ "$(beats)" -gt $((had + 2)) ]; }
    within 30 "the heart beats again" beats_again
    record /data lost-3
    within 60 "lost-3 is shipped" shipped lost-3
    for id in here there twice read meanwhile lost-1 lost-2 lost-3; do
        expect "$id is not held by the receiver" stored "$id"
        expect "$id was told twice" test "$(grep -c "shipped $id, now in" /run/ship.log)" = 1
    done
    expect "something is left in episodes/: $(ls -A /export/episodes)" test -z "$(ls -A /export/episodes)"
    expect "something is left in outbox/: $(ls -A /export/outbox)" test -z "$(ls -A /export/outbox)"
}

where_its_threads_wait() { # in the kernel
    for task in /proc/"$(cat /run/ship.pid)"/task/*; do
        echo "$(cat "$task/comm"): $(sed 's/.*] //; s/+.*//' "$task/stack" | tr '\n' ' ')"
    done
}

a_stop_while_the_server_is_gone_is_given_up_by_itself_or_by_a_kill_and_loses_nothing() {
    said=$(grep -c 'has not moved for .* No sign of life' /run/ship.log)
    server_down
    record /export last
    hung() { [ "$(grep -c 'has not moved for .* No sign of life' /run/ship.log)" -gt "$said" ]; }
    within 60 "it hangs" hung
    kill "$(cat /run/ship.pid)"
    # Five seconds for what is in flight, ten to put it away.
    within 25 "it gives up" log_says "stopped with work under way; the next start finishes it"
    if ! (within 5 "it has ended" not alive) >/dev/null; then
        # Closing a file waits for the server (the lock's, here), and only SIGKILL ends that wait:
        # what a manager sends next.
        echo "it waits for the server to close its files"
        kill -KILL "$(cat /run/ship.pid)"
        if ! (within 5 "it goes when it is killed" not alive); then
            where_its_threads_wait
            exit 1
        fi
    fi
    server_up
    start_shipper
    within 120 "the next start goes on" shipped last
    expect "the receiver does not hold it" stored last
}

mkdir -p /data/episodes
(start_receiver) || { say "no receiver"; cat /run/receive.log; off; }
check auto_looks_around_and_touches_nothing_of_inotify
check an_episode_of_another_host_is_found
check a_name_that_is_taken_is_numbered_though_the_server_knows_no_noreplace
check what_cannot_be_as_it_was_is_quarantined
check a_file_that_is_removed_while_somebody_reads_it_stands_in_nobodys_way
check a_second_daemon_is_refused
check a_server_that_is_gone_stops_the_heart_and_loses_nothing
check a_stop_while_the_server_is_gone_is_given_up_by_itself_or_by_a_kill_and_loses_nothing
say "nfs rig: $passed passed, $failed failed"
off
