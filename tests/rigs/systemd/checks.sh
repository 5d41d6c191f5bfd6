#!/usr/bin/env bash
# Runs inside, beside PID 1 (run.sh). A check is a function; it says `ok` or `FAILED` with what it
# waited for, and begins with a stopped unit, empty folders and the plain configuration.
#
#   checks.sh [NAME-OF-A-CHECK...]
set -u

data=/var/lib/sealift
drop_ins=/etc/systemd/system/sealift.service.d
work=/run/rig
# What the unit has, and what the checks give it instead, seconds.
patience_s=3
restart_s=5
# Every check that cuts into an upload cuts into one of this size.
long_kb=20000

exec {never}<> <(:)
# Between two looks at what is waited for.
pause() { read -r -t 0.05 -u "$never" || true; }
now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }
die() { echo "      $*"; exit 1; }
expect() { local what=$1; shift; "$@" || die "$what"; }

# Waits until a command succeeds.
within() { # SECONDS WHAT COMMAND...
    local deadline=$((SECONDS + $1)) what=$2
    local limit_s=$1
    shift 2
    until "$@"; do
        [ "$SECONDS" -le "$deadline" ] || die "not within $limit_s s: $what"
        pause
    done
}

property() { systemctl show sealift --property "$1" --value; }
is() { [ "$(property "$1")" = "$2" ]; }
status_says() { [[ $(property StatusText) == *"$1"* ]]; }
# Of this check: each begins with a mark in the journal.
journal() { journalctl --quiet --sync >/dev/null; journalctl --quiet --no-pager --after-cursor="$(cat $work/mark)" "$@"; }
journal_says() { journal -o cat -u sealift | grep -qF -- "$1"; }
shipped() { [ -f "$data/shipped/$1/shipping_receipt.json" ]; }
quarantined() { [ -f "$data/quarantine/$1/quarantine_reason.json" ]; }
# The file is empty for a moment, each time that it is written.
carried() { local bytes; bytes=$(cat $work/carried 2>/dev/null); echo "${bytes:-0}"; }
carried_more_than() { [ "$(carried)" -gt "$1" ]; }

# What was on the line when its sender went has arrived, or is lost: nothing moves any more.
line_is_quiet() { local before; before=$(carried); pause; pause; pause; pause; [ "$(carried)" = "$before" ]; }
# How much of the upload that broke off the receiver has kept, bytes.
kept() {
    local bytes
    bytes=$(find /srv/store -path /srv/store/episodes -prune -o -type f -size +1M -printf '%s\n' | sort -n | tail -1)
    echo "${bytes:-0}"
}
# Something was kept, and is not sent again. A mebibyte for headers, and for what was on the line.
resumed() { # CARRIED-BEFORE KEPT ID
    local size
    size=$(stat -c %s "/srv/store/episodes/$3.tar.zst")
    echo "      $1 bytes carried before, $2 of them kept; then $(($(carried) - $1)) of $size"
    [ "$2" -gt 0 ] && [ $(($(carried) - $1)) -le $((size - $2 + 1048576)) ]
}

config() { # URL [LINES]: with the disk_timeout that is set
    cat >/etc/sealift/sealift.toml <<CONFIG
[shipper]
data_dir = "$data"
${disk_timeout-}
[receiver]
url = "$1"
${2-}
CONFIG
}

drop_in() { # NAME, and what it holds on stdin
    mkdir -p $drop_ins
    cat >"$drop_ins/$1.conf"
    systemctl daemon-reload
}

short_patience() {
    drop_in patience <<DROP_IN
[Service]
WatchdogSec=$patience_s
DROP_IN
    disk_timeout="disk_timeout_s = 2"
    sed -i "s/^\[receiver\]/$disk_timeout\n&/" /etc/sealift/sealift.toml
}

# As somebody else, whose umask and whose group are what docs/recorders.md asks for.
as_recorder() { setpriv --reuid=recorder --regid=recorder --init-groups bash -c "umask 007; cd $data/episodes; $1"; }
record() { # ID KILOBYTES: sealed, and all at once
    as_recorder "mkdir -m 2770 .$1 && mkdir -m 2770 .$1/deep && head -c ${2}K /dev/urandom >.$1/deep/noise.bin &&
        echo note >.$1/note.txt && : >.$1/done.marker && mv .$1 $1"
}

# What the receiver holds is what was recorded: it restores to the same.
held_whole() { # ID
    local restored
    restored=$(mktemp -d)
    tar --zstd -xf "/srv/store/episodes/$1.tar.zst" -C "$restored"
    diff -r --exclude shipping_receipt.json "$restored/$1" "$data/shipped/$1"
}

peer() { # WHAT PORT
    systemd-run --quiet --collect --unit="rig-$1" --service-type=notify --property=NotifyAccess=all \
        --property=StandardOutput=journal python3 /rig/peers.py "$1" "$2" $work
}

receiver_answers() { (exec 3<>/dev/tcp/127.0.0.1/8490) 2>/dev/null; }

fresh() {
    systemctl stop sealift 2>/dev/null
    rm -rf $drop_ins
    systemctl daemon-reload
    systemctl reset-failed sealift 2>/dev/null
    find $data -mindepth 2 -delete
    rm -rf $work
    mkdir -p $work
    config http://127.0.0.1:8490
    journalctl --quiet --sync
    journalctl --quiet --no-pager -n 1 --show-cursor | sed -n 's/^-- cursor: //p' >$work/mark
}

# ── the checks
# ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

installing_twice_changes_nothing_that_is_yours() {
    echo "# mine" >>/etc/sealift/sealift.toml
    /rig/contrib/install.sh /rig/sealift >$work/said
    expect "a changed configuration was overwritten" grep -q '^# mine$' /etc/sealift/sealift.toml
    expect "it does not say what to do next" grep -q "systemctl enable --now sealift" $work/said
    expect "a page of the manual is missing" [ -f /usr/local/share/man/man1/sealift-requeue.1 ]
    expect "bash does not complete" grep -q requeue /usr/local/share/bash-completion/completions/sealift
    expect "the data folder's mode" [ "$(stat -c %a:%U:%G $data/episodes)" = 2770:sealift:sealift ]
    expect "the configuration's mode" [ "$(stat -c %a:%U:%G /etc/sealift/sealift.toml)" = 640:root:sealift ]
}

an_update_leaves_a_changed_group_and_a_symlinked_data_folder_as_they_are() {
    chgrp audio $data/episodes
    chmod 2775 $data/episodes
    mv $data $data.real
    ln -s $data.real $data
    /rig/contrib/install.sh /rig/sealift >$work/said 2>$work/errors
    expect "the group or mode was reset" [ "$(stat -c %a:%U:%G $data/episodes/)" = 2775:sealift:audio ]
    expect "an error was printed: $(cat $work/errors)" [ ! -s $work/errors ]
    rm $data
    mv $data.real $data
    chgrp sealift $data/episodes
    chmod 2770 $data/episodes
    /rig/contrib/install.sh /rig/sealift >/dev/null
}

a_bare_name_is_the_file_here_and_never_what_path_has() {
    mkdir -p $work/empty
    expect "something in PATH was installed" eval '! (cd $work/empty && /rig/contrib/install.sh true) >/dev/null 2>&1'
    (cd /rig && /rig/contrib/install.sh sealift) >/dev/null
    expect "the file here is not the one installed" cmp /rig/sealift /usr/local/bin/sealift
}

setup_lets_the_unit_ship_from_a_folder_elsewhere_and_then_has_nothing_to_do() {
    sed -i "s|^data_dir = .*|data_dir = \"/srv/elsewhere\"|" /etc/sealift/sealift.toml
    sealift setup >$work/said
    expect "no drop-in: $(cat $work/said)" grep -q '^ReadWritePaths=/srv/elsewhere$' $drop_ins/zz-sealift-paths.conf
    expect "systemd has not read it" eval 'systemctl show -p ReadWritePaths sealift | grep -q /srv/elsewhere'
    expect "the folders' mode" [ "$(stat -c %a:%U:%G /srv/elsewhere/episodes)" = 2770:sealift:sealift ]
    expect "the second run" [ "$(sealift setup)" = "nothing to do" ]
    systemctl start sealift
    mkdir -m 2770 /srv/elsewhere/episodes/.afield && touch /srv/elsewhere/episodes/.afield/done.marker
    chown -R recorder:sealift /srv/elsewhere/episodes/.afield
    mv /srv/elsewhere/episodes/.afield /srv/elsewhere/episodes/afield
    within 10 "afield is shipped" [ -d /srv/elsewhere/shipped/afield ]
    systemctl stop sealift
    rm -r /srv/elsewhere
}

a_receiver_on_the_same_host_keeps_its_configuration_and_its_program() {
    expect "others cannot pass through /etc/sealift" [ "$(stat -c %a /etc/sealift)" = 755 ]
    cp /rig/contrib/systemd/sealift-receiver.service /etc/systemd/system/
    /rig/contrib/install.sh --uninstall >$work/said
    expect "the receiver's program is gone" [ -x /usr/local/bin/sealift ]
    expect "it does not say so" grep -q 'sealift-receiver.service runs' $work/said
    rm /etc/systemd/system/sealift-receiver.service
    /rig/contrib/install.sh /rig/sealift >/dev/null
}

the_unit_is_as_hardened_as_is_said() {
    systemctl start sealift
    # In tenths.
    systemd-analyze security --threshold=15 --no-pager sealift.service >$work/said || { cat $work/said; die "exposed"; }
    grep -o 'Overall exposure.*' $work/said
    local status
    status=/proc/$(property MainPID)/status
    expect "it does not run as sealift" [ "$(awk '/^Uid/ { print $2 }' "$status")" = "$(id -u sealift)" ]
    expect "it may gain privileges" grep -q '^NoNewPrivs:[[:space:]]*1$' "$status"
    expect "no system call filter" grep -q '^Seccomp:[[:space:]]*2$' "$status"
    expect "it has capabilities" grep -q '^CapBnd:[[:space:]]*0*$' "$status"
    expect "it would give up after some restarts" is StartLimitIntervalUSec 0
    expect "the watchdog's patience" is WatchdogUSec 3min
    # Recording wins: nice is the 19th field of proc(5)'s stat, counted behind the name in
    # parentheses.
    local stat nice
    stat=$(<"${status%/status}/stat")
    read -r -a stat <<<"${stat##*) }"
    nice=${stat[16]}
    expect "it is as nice as a recorder: $nice" [ "$nice" = 10 ]
    expect "its share of the processor: $(property CPUWeight)" is CPUWeight 20
    expect "its share of the disk: $(property IOWeight)" is IOWeight 20
}

active_on_ready_and_not_before() {
    # A predecessor was killed while it removed a large directory: that is finished first.
    local trash=$data/shipped/.sealift-trash-0-old looks=0 state
    setpriv --reuid=sealift --regid=sealift --clear-groups bash -c "mkdir $trash && cd $trash && seq 50000 | xargs touch"
    systemctl start --no-block sealift
    local deadline=$((SECONDS + 60))
    while :; do
        # In this order: what is removed is not made again.
        state=$(property ActiveState)
        [ "$state" != active ] || break
        [ "$state" = activating ] || [ "$state" = inactive ] || die "it is $state"
        [ "$state" != activating ] || [ ! -e $trash ] || looks=$((looks + 1))
        [ "$SECONDS" -le "$deadline" ] || die "not active within 60 s"
    done
    expect "active before its clean-up was through" [ ! -e $trash ]
    expect "it was never seen to be activating while it cleaned up" [ "$looks" -gt 0 ]
}

another_users_episode_ships_retires_and_is_quarantined() {
    systemctl start sealift
    record good 100
    within 10 "good is shipped" shipped good
    expect "good is not gone from episodes/" [ ! -e $data/episodes/good ]
    expect "what was shipped is not the recorder's any more" [ "$(stat -c %a:%U:%G $data/shipped/good)" = 2770:recorder:sealift ]
    expect "the receipt is closed to the group" as_recorder "cat ../shipped/good/shipping_receipt.json >/dev/null"
    held_whole good || die "the receiver holds something else"

    # Its own bytes speak against it.
    as_recorder "mkdir -m 2770 .torn && echo one >.torn/a && sealift seal .torn >/dev/null && echo two >.torn/a && mv .torn torn"
    within 10 "torn is quarantined" quarantined torn
    # The receiver speaks against it.
    config http://127.0.0.1:8493
    systemctl reload sealift
    within 10 "the reload" journal_says "reloaded"
    record refused 10
    within 10 "refused is quarantined" quarantined refused
    expect "the reason" grep -q "no such rig" $data/quarantine/refused/quarantine_reason.json
    journal -o json | python3 /rig/journal.py delivered good || die "the journal"
    journal -o json | python3 /rig/journal.py fatal refused || die "the journal"
    # Whoever is in the group may bring it back.
    config http://127.0.0.1:8490
    systemctl restart sealift
    as_recorder "rm ../quarantine/torn/{quarantine_reason.json,done.marker} && mv ../quarantine/torn . && : >torn/done.marker"
    within 10 "what was brought back is shipped" shipped torn
}

a_stopped_process_is_killed_on_time_and_goes_on_where_it_was() {
    short_patience
    config http://127.0.0.1:8491
    echo 4000000 >$work/rate
    systemctl start sealift
    record cut $long_kb
    within 20 "the upload is under way" carried_more_than 6000000
    local stopped pid
    pid=$(property MainPID)
    stopped=$(now_ms)
    kill -STOP "$pid"
    within $((patience_s + 5)) "the watchdog's word" journal_says "Watchdog timeout (limit ${patience_s}s)!"
    within 1 "its deed" journal_says "Killing process $pid (sealift) with signal SIGABRT"
    local took=$(($(now_ms) - stopped))
    # The last beat was up to a third of its patience ago.
    expect "after $took ms" [ $took -ge $((patience_s * 1000 / 2)) -a $took -le $((patience_s * 1000 + 2000)) ]
    echo "      after $took ms"
    rm $work/rate
    within 4 "the line is quiet" line_is_quiet
    local before=$(carried) had=$(kept)
    within $((restart_s + 10)) "it is back" is ActiveState active
    expect "restarts: $(property NRestarts)" is NRestarts 1
    within 60 "cut is shipped" shipped cut
    held_whole cut || die "the receiver holds something else"
    resumed "$before" "$had" cut || die "it began again"
    expect "it was restarted again" is NRestarts 1
}

a_long_transfer_and_a_backlog_outlast_a_short_watchdog() {
    short_patience
    config http://127.0.0.1:8491
    echo 640000 >$work/rate
    record slow $long_kb
    as_recorder 'for n in $(seq 2000); do mkdir -m 2770 .b$n; echo $n >.b$n/n; : >.b$n/done.marker; mv .b$n b$n; done'
    local started pid
    systemctl start sealift
    started=$(now_ms)
    pid=$(property MainPID)
    all_shipped() { [ "$(find $data/shipped -name shipping_receipt.json | wc -l)" = 2001 ]; }
    within 180 "all of them are shipped" all_shipped
    local took=$(($(now_ms) - started))
    expect "the transfer took $took ms only" [ $took -ge 30000 ]
    expect "it was restarted" is NRestarts 0
    expect "it is another process" is MainPID "$pid"
    # shellcheck disable=SC2046
    journal -o json | python3 /rig/journal.py delivered slow $(seq -f b%.0f 2000) || die "the journal"
    echo "      2001 episodes in $took ms"
}

a_disk_that_stops_answering_is_noticed_and_the_daemon_started_anew() {
    short_patience
    cp -a $data $work/real
    systemd-run --quiet --collect --unit=rig-fuse --service-type=exec bindfs -f -o allow_other,nonempty $work/real $data
    trap 'systemctl kill --signal=CONT rig-fuse; systemctl stop sealift; systemctl stop rig-fuse; umount -l $data 2>/dev/null || true' EXIT
    within 10 "the mount" mountpoint -q $data
    systemctl start sealift
    expect "events are trusted on FUSE" journal_says "events cannot be trusted on FUSE"
    record before 10
    within 20 "before is shipped" shipped before
    local hung pid main
    pid=$(property MainPID)
    hung=$(now_ms)
    systemctl kill --signal=STOP rig-fuse
    within 40 "the log names what hangs" journal_says "has not moved for"
    local allowance_s
    allowance_s=$(journal -o cat | sed -n 's/.* has not moved for \([0-9]*\) s.*/\1/p' | head -1)
    echo "      $(journal -o cat | grep -o '.* has not moved for [0-9]* s' | head -1), seen after $(($(now_ms) - hung)) ms"
    status_says "HUNG" || die "the status says: $(property StatusText)"
    within $((patience_s + 5)) "the watchdog's word" journal_says "Watchdog timeout (limit ${patience_s}s)!"
    another_process() { main=$(property MainPID); [ "$main" != "$pid" ]; }
    within 15 "the process is gone" another_process
    local took=$(($(now_ms) - hung))
    # It looks around every five seconds there; only then does it hang.
    expect "after $took ms" [ $took -le $(((5 + allowance_s + patience_s + 5) * 1000)) ]
    echo "      killed after $took ms"
    systemctl kill --signal=CONT rig-fuse
    within 60 "it is back" is ActiveState active
    record after 10
    within 30 "after is shipped" shipped after
    held_whole after || die "the receiver holds something else"
}

certificates() {
    cd $work || exit 1
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=rig-ca -keyout ca.key -out ca.pem 2>/dev/null
    local name
    for name in front first second; do
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout $name.key -out $name.csr 2>/dev/null
        printf 'subjectAltName=DNS:%s,IP:127.0.0.1\n' $name >$name.ext
        openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $name.ext -out $name.pem 2>/dev/null
    done
    install -m 640 -g sealift ca.pem /etc/sealift/ca.pem
}

show_certificate() { # NAME
    install -m 640 -g sealift $work/$1.pem /etc/sealift/host.pem
    install -m 640 -g sealift $work/$1.key /etc/sealift/host.key
}

a_reload_takes_up_a_certificate_and_a_receiver_and_drops_no_upload() {
    certificates
    peer front 8492
    trap 'systemctl stop rig-front' EXIT
    local by_tls='ca_file = "/etc/sealift/ca.pem"
client_cert_file = "/etc/sealift/host.pem"
client_key_file = "/etc/sealift/host.key"'
    show_certificate first
    # Through the slow line first.
    config http://127.0.0.1:8491
    echo 4000000 >$work/rate
    systemctl start sealift
    local pid
    pid=$(property MainPID)
    record rerouted $long_kb
    within 20 "the upload is under way" carried_more_than 2000000
    config https://127.0.0.1:8492 "$by_tls"
    systemctl reload sealift
    within 10 "the reload" journal_says "reloaded"
    record short-1 10
    within 10 "short-1 is shipped" shipped short-1
    expect "rerouted is through already" [ ! -e $data/shipped/rerouted ]
    expect "the certificate: $(sort -u $work/seen)" [ "$(sort -u $work/seen)" = first ]
    rm $work/rate
    within 60 "rerouted is shipped" shipped rerouted
    expect "rerouted was sent elsewhere" grep -q '"receiver": *"http://127.0.0.1:8491/' $data/shipped/rerouted/shipping_receipt.json
    expect "short-1 was sent elsewhere" grep -q '"receiver": *"https://127.0.0.1:8492/' $data/shipped/short-1/shipping_receipt.json
    journal -o json | python3 /rig/journal.py delivered rerouted short-1 || die "the journal"

    show_certificate second
    systemctl reload sealift
    reloaded_twice() { [ "$(journal -o cat -u sealift | grep -c "reloaded:")" = 2 ]; }
    within 10 "the second reload" reloaded_twice
    record short-2 10
    within 10 "short-2 is shipped" shipped short-2
    expect "the certificate: $(tail -1 $work/seen)" [ "$(tail -1 $work/seen)" = second ]

    # A wrong file, and a wrong certificate.
    config https://127.0.0.1:8492 "conect_timeout_s = 1"
    systemctl reload sealift
    within 10 "the status says that it failed" status_says "reload failed, the old configuration is kept: "
    within 10 "it names the line" journal_says "did you mean"
    echo "      $(property StatusText | cut -c1-150)"
    config https://127.0.0.1:8492 "$by_tls"
    echo "no certificate" >/etc/sealift/host.pem
    systemctl reload sealift
    within 10 "the status names the certificate" status_says "host.pem"
    expect "it does not run on" is ActiveState active
    record short-3 10
    within 10 "short-3 is shipped all the same" shipped short-3
    show_certificate second
    systemctl reload sealift
    quiet() { is StatusText "nothing to ship"; }
    within 10 "the status is a calm one" quiet
    expect "it was started anew" is MainPID "$pid"
    expect "it was restarted" is NRestarts 0
}

a_stop_in_the_middle_returns_within_the_grace_and_the_next_start_resumes() {
    config http://127.0.0.1:8491
    echo 2000000 >$work/rate
    systemctl start sealift
    record halted $long_kb
    within 20 "the upload is under way" carried_more_than 4000000
    local stopped took
    stopped=$(now_ms)
    systemctl stop sealift
    took=$(($(now_ms) - stopped))
    echo "      stopped within $took ms"
    # Five seconds for what is in flight, ten to put it away.
    expect "after $took ms" [ $took -le 16000 ]
    expect "the result: $(property Result)" is Result success
    expect "the code: $(property ExecMainStatus)" is ExecMainStatus 0
    expect "the episode is gone from episodes/" [ -d $data/episodes/halted ]
    expect "it was through already" [ ! -e $data/shipped/halted ]
    rm $work/rate
    within 4 "the line is quiet" line_is_quiet
    local before=$(carried) had=$(kept)
    systemctl start sealift
    within 60 "halted is shipped" shipped halted
    held_whole halted || die "the receiver holds something else"
    resumed "$before" "$had" halted || die "it began again"
    journal -o json | python3 /rig/journal.py delivered halted || die "the journal"
}

two_writable_paths_are_found_out_and_everything_ships_by_copy() {
    systemctl start sealift
    systemctl stop sealift
    expect "one parent: moves are copies" eval '! journal_says "are copies"'
    drop_in siblings <<DROP_IN
[Service]
ReadWritePaths=
ReadWritePaths=$data/.sealift $data/episodes $data/outbox $data/shipped $data/quarantine
DROP_IN
    systemctl start sealift
    within 10 "the log says so" journal_says "Moves to $data/shipped are copies, though it is the same file system"
    within 10 "the log says what to do" journal_says "ReadWritePaths= must name the folder above both"
    within 10 "the status says so" status_says "moves to $data/shipped are copies"
    record copied 100
    within 20 "copied is shipped" shipped copied
    gone() { [ ! -e $data/episodes/copied ]; }
    within 10 "what was copied is removed" gone
    expect "the modes: $(stat -c %a $data/shipped/copied $data/shipped/copied/deep | tr '\n' ' ')" \
        [ "$(stat -c %a:%G $data/shipped/copied $data/shipped/copied/deep | sort -u)" = 2770:sealift ]
    held_whole copied || die "the receiver holds something else"
}

a_wrong_configuration_is_not_tried_again_and_a_killed_process_is() {
    config http://127.0.0.1:8490 "nonsense = 1"
    systemctl start sealift 2>/dev/null && die "it started"
    within 10 "it has failed" is ActiveState failed
    expect "the code: $(property ExecMainStatus)" is ExecMainStatus 2
    expect "it was tried again" is NRestarts 0
    config http://127.0.0.1:8490
    systemctl start sealift
    local pid
    pid=$(property MainPID)
    kill -KILL "$pid"
    another_process() { is ActiveState active && ! is MainPID "$pid"; }
    within $((restart_s + 10)) "it is back" another_process
    record revived 10
    within 10 "revived is shipped" shipped revived
}

uninstalling_twice_keeps_what_is_yours() {
    systemctl enable --quiet --now sealift
    record kept 10
    within 10 "kept is shipped" shipped kept
    /rig/contrib/install.sh --uninstall >$work/said
    expect "it does not say where the data is" grep -q "$data" $work/said
    /rig/contrib/install.sh --uninstall >/dev/null
    expect "the manual is still there" eval '! ls /usr/local/share/man/man1/sealift* >/dev/null 2>&1'
    expect "the program is still there" [ ! -e /usr/local/bin/sealift ]
    expect "the unit is still there" eval '! systemctl cat sealift >/dev/null 2>&1'
    expect "it still runs" eval '! pgrep -x sealift -u sealift >/dev/null'
    expect "the data is gone" shipped kept
    expect "the configuration is gone" [ -f /etc/sealift/sealift.toml ]
    /rig/contrib/install.sh /rig/sealift >/dev/null
    systemctl start sealift
    record again 10
    within 10 "again is shipped" shipped again
}

a_trace_is_told_out_of_the_real_journal() {
    systemctl start sealift
    record traced 10
    within 10 "traced is shipped" shipped traced
    journalctl --quiet --sync
    sealift trace traced >$work/said
    for step in sealed seen packed delivered shipped; do
        expect "no $step in $(cat $work/said)" grep -q " $step" $work/said
    done
    expect "something was not read: $(cat $work/said)" eval "! grep -q '^not read' $work/said"
}

# What the doctor says just now, and one thing of it: the row's id, and the names of its members.
doctor() { sealift doctor --json "$@" >$work/doctor.json || true; }
row() {
    python3 -c 'import functools, json, sys
rows = [row for row in json.load(open(sys.argv[1]))["checks"] if row["id"] == sys.argv[2]]
print(functools.reduce(lambda value, name: value[name], sys.argv[3:], rows[0]) if rows else "no such row")' $work/doctor.json "$@"
}
row_is() { doctor; [ "$(row "$1" status)" = "$2" ]; }
wrong() {
    doctor
    python3 -c 'import json, sys
print(*(row["id"] for row in json.load(open(sys.argv[1]))["checks"] if row["status"] != "green"))' $work/doctor.json
}
nothing_is_wrong() { [ -z "$(wrong)" ]; }
# Types what the row says, and then what its sentence says to type then.
mend() {
    local said
    said=$(row "$1" summary)
    sh -c "$(row "$1" fix)" >>$work/typed 2>&1 || true
    case $said in *"Then: "*) sh -c "${said##*Then: }" >>$work/typed 2>&1 || true ;; esac
}
# Exactly this row has turned, to this colour; what it says is typed, and nothing is wrong any more.
turns_and_is_mended() { # ROW COLOUR
    within 10 "$1 is $2" row_is "$1" "$2"
    expect "other rows have turned: $(wrong)" [ "$(wrong)" = "$1" ]
    mend "$1"
    within 15 "$1 is green again" nothing_is_wrong
}

class_is() { doctor; [ "$(row journal details class)" = "$1" ]; }
# Entries of this second may be kept once more.
emptied() { journalctl --quiet --rotate --vacuum-time=1s; class_is empty; }

the_doctor_is_green_on_a_sound_host_and_each_of_its_fixes_mends() {
    # What the checks before it have left there is theirs.
    within 10 "the journal is empty" emptied
    systemctl enable --quiet --now sealift
    record sound 10
    within 10 "sound is shipped" shipped sound
    within 10 "all is green, and not: $(wrong)" nothing_is_wrong

    systemctl disable --quiet sealift
    turns_and_is_mended unit yellow

    systemctl kill --signal=KILL sealift
    within $((restart_s + 10)) "it is back" is NRestarts 1
    within 10 "it is active" is ActiveState active
    turns_and_is_mended restarts yellow

    drop_in none <<DROP_IN
[Service]
WatchdogSec=0
DROP_IN
    systemctl restart sealift
    turns_and_is_mended watchdog yellow

    drop_in siblings <<DROP_IN
[Service]
ReadWritePaths=
ReadWritePaths=$data/.sealift $data/episodes $data/outbox $data/shipped $data/quarantine
DROP_IN
    systemctl restart sealift
    turns_and_is_mended moves yellow

    config http://127.0.0.1:8490 "nonsense = 1"
    doctor
    expect "the first red row: $(wrong)" [ "$(wrong)" = configuration ]
    systemctl restart sealift 2>/dev/null || true
    within 10 "it has failed" is ActiveState failed
    doctor
    # Where the folders are is not known.
    expect "the rows: $(wrong)" [ "$(wrong)" = "configuration unit" ]
    expect "it does not say what ended it" grep -q "exit code 2: a wrong configuration" $work/doctor.json
    config http://127.0.0.1:8490
    doctor
    mend unit
    within 10 "all is green, and not: $(wrong)" nothing_is_wrong
    systemctl disable --quiet sealift
}

the_doctor_names_a_second_disk_to_the_unit_and_forgets_nothing_that_it_could_write_to() {
    within 10 "the journal is empty" emptied
    mkdir -p /srv/second /srv/metrics
    mount -t tmpfs -o mode=755 none /srv/second
    trap 'systemctl stop sealift; umount -l /srv/second' EXIT
    install -d -m 2770 -o sealift -g sealift /srv/second/shipped
    drop_in metrics <<DROP_IN
[Service]
ReadWritePaths=/srv/metrics
DROP_IN
    sed -i 's|^\[receiver\]|shipped_dir = "/srv/second/shipped"\n[receiver]|' /etc/sealift/sealift.toml
    systemctl enable --quiet --now sealift
    turns_and_is_mended moves red
    paths() { echo $(property ReadWritePaths | tr ' ' '\n' | sort -u); }
    expect "the paths: $(paths)" [ "$(paths)" = "/srv/metrics /srv/second/shipped $data" ]
    record far 10
    within 10 "far is shipped" [ -e /srv/second/shipped/far/shipping_receipt.json ]

    # Siblings in the place of what is above them: the list begins anew, and has all else that was
    # in it.
    rm $drop_ins/zz-sealift-paths.conf
    drop_in siblings <<DROP_IN
[Service]
ReadWritePaths=
ReadWritePaths=$data/.sealift $data/episodes $data/outbox $data/quarantine /srv/second/shipped -/srv/metrics
DROP_IN
    systemctl restart sealift
    turns_and_is_mended moves yellow
    expect "the paths: $(paths)" [ "$(paths)" = "-/srv/metrics /srv/second/shipped $data" ]
    systemctl disable --quiet sealift
}

the_doctor_tells_what_the_journal_comes_to() {
    # What the receiver says is a command where it begins with a program that is here.
    install -m 755 /dev/stdin /usr/local/bin/lab-update <<<'#!/bin/sh'
    within 10 "empty" emptied
    systemctl start sealift
    record heard-of 10
    within 10 "heard-of is shipped" shipped heard-of
    within 10 "clean" class_is clean
    config http://127.0.0.1:1
    systemctl reload sealift
    record late 10
    within 10 "transient" class_is transient
    config http://127.0.0.1:8493
    systemctl reload sealift
    within 20 "late is quarantined" quarantined late
    within 10 "fatal" class_is fatal
    record malformed 10
    within 10 "malformed is quarantined" quarantined malformed
    within 10 "400" class_is 400
    record old 10
    within 10 "old is quarantined" quarantined old
    within 10 "412" class_is 412
    expect "the counts: $(row journal details counts)" [ "$(row journal details counts 412),$(row journal details counts 400)" = 1,1 ]
    expect "the row: $(row journal summary)" grep -q "1 ship rejected as out-of-window" $work/doctor.json
    expect "the fix: $(row journal fix)" [ "$(row journal fix)" = "lab-update --now" ]
    echo "      $(row journal summary)"

    # Somebody else may not read the journal, and is told how to.
    theirs() { as_recorder "cd /; sealift doctor --json" >$work/doctor.json || true; [ "$(row journal details class)" = "$1" ]; }
    within 10 "not permitted" theirs not-permitted
    local fix
    fix=$(row journal fix)
    expect "the fix: $fix" [ "$fix" = "sudo usermod -aG systemd-journal recorder" ]
    ${fix#sudo }
    within 10 "permitted" theirs 412
    gpasswd --delete recorder systemd-journal >/dev/null
}

the_doctor_waits_for_no_mount_that_hangs() {
    cp -a $data $work/real
    systemd-run --quiet --collect --unit=rig-fuse --service-type=exec bindfs -f -o allow_other,nonempty $work/real $data
    trap 'systemctl kill --signal=CONT rig-fuse; systemctl stop rig-fuse; umount -l $data 2>/dev/null || true' EXIT
    within 10 "the mount" mountpoint -q $data
    doctor
    expect "events are relied on: $(row watch-mode summary)" [ "$(row watch-mode details file_system)" = FUSE ]
    sed -i 's/^\[receiver\]/watch = "inotify"\n[receiver]/' /etc/sealift/sealift.toml
    doctor
    expect "the way of watching: $(row watch-mode status)" [ "$(row watch-mode status)" = yellow ]
    printf '#!/bin/sh\nsed -i "s/^watch = .*/watch = \\"auto\\"/" "$1"\n' >$work/editor
    chmod +x $work/editor
    EDITOR=$work/editor mend watch-mode
    doctor
    expect "the way of watching, mended: $(row watch-mode summary)" [ "$(row watch-mode status)" = green ]
    within 10 "it looks around: $(row daemon-watching summary)" row_is daemon-watching green
    systemctl stop sealift
    systemctl kill --signal=STOP rig-fuse
    local began took
    began=$(now_ms)
    doctor
    took=$(($(now_ms) - began))
    echo "      after $took ms: $(row folders summary)"
    expect "the row: $(row folders status)" [ "$(row folders status)" = red ]
    expect "after $took ms" [ $took -lt 5000 ]
    systemctl kill --signal=CONT rig-fuse
    doctor
    expect "the row afterwards: $(row folders status)" [ "$(row folders status)" = green ]
}

a_journald_that_hangs_holds_up_no_episode_and_no_heart_and_has_every_line_afterwards() {
    short_patience
    systemctl start sealift
    record earlier 10
    within 10 "earlier is shipped" shipped earlier
    local pid stopped ids
    pid=$(property MainPID)
    stopped=$(now_ms)
    systemctl kill --kill-whom=main --signal=STOP systemd-journald
    trap 'systemctl kill --signal=CONT systemd-journald' EXIT
    # More than the kernel keeps for a reader that does not come.
    ids=$(seq -f h%.0f 600)
    as_recorder 'for n in $(seq 600); do mkdir -m 2770 .h$n; echo $n >.h$n/n; : >.h$n/done.marker; mv .h$n h$n; done'
    all_shipped() { [ "$(find $data/shipped -name shipping_receipt.json | wc -l)" = 601 ]; }
    within 60 "all of them are shipped" all_shipped
    # Several times the watchdog's patience.
    asked() { sealift status --json >$work/status.json || true; grep -Eq '"stuck_for_s": *[0-9]' $work/status.json; }
    within 30 "the status says that the log is stuck" asked
    expect "the problem: $(cat $work/status.json)" grep -q "journald has taken no line of its log for" $work/status.json
    doctor
    expect "the row: $(row daemon summary)" [ "$(row daemon fix)" = "systemctl restart systemd-journald" ]
    record during 10
    within 10 "during is shipped" shipped during
    local took=$(($(now_ms) - stopped))
    expect "after $took ms only" [ $took -ge $((patience_s * 2000)) ]
    expect "it was restarted" is NRestarts 0
    expect "it is another process" is MainPID "$pid"
    systemctl kill --kill-whom=main --signal=CONT systemd-journald
    # shellcheck disable=SC2086
    told() { journal -o json | python3 /rig/journal.py delivered earlier $ids during 2>$work/wrong; }
    within 20 "the journal has each line once" told
    expect "lines are missing" eval '! journal_says "of this log are missing"'
    journal_says ", and written late)" || die "no line says when it was said"
    echo "      602 episodes, with journald stopped for $took ms"
}

a_log_that_overflows_says_what_is_missing_and_a_stop_waits_for_no_journald() {
    short_patience
    drop_in few <<DROP_IN
[Service]
Environment=RUST_LOG=sealift=debug
DROP_IN
    systemctl start sealift
    systemctl kill --kill-whom=main --signal=STOP systemd-journald
    trap 'systemctl kill --signal=CONT systemd-journald' EXIT
    # Each line names its episode: so they come to more than the queue's 4 MiB.
    as_recorder 'for n in $(seq 1500); do o=$(printf "%0200d" $n); mkdir -m 2770 .$o; echo $n >.$o/n; : >.$o/done.marker; mv .$o $o; done'
    all_shipped() { [ "$(find $data/shipped -name shipping_receipt.json | wc -l)" = 1500 ]; }
    within 150 "all of them are shipped" all_shipped
    sealift status --json >$work/status.json || true
    systemctl kill --kill-whom=main --signal=CONT systemd-journald
    expect "nothing was dropped" grep -Eq '"lines_dropped": *[1-9]' $work/status.json
    within 10 "it says what is missing" journal_says "of this log are missing, said from"
    echo "      $(journal -o cat | grep -o '.* of this log are missing, .* did not take them')"
    expect "it was restarted" is NRestarts 0

    systemctl kill --kill-whom=main --signal=STOP systemd-journald
    as_recorder 'for n in $(seq 600); do mkdir -m 2770 .s$n; echo $n >.s$n/n; : >.s$n/done.marker; mv .s$n s$n; done'
    all_shipped() { [ "$(find $data/shipped -name shipping_receipt.json | wc -l)" = 2100 ]; }
    within 60 "all of them are shipped, again" all_shipped
    local began took
    began=$(now_ms)
    systemctl stop sealift
    took=$(($(now_ms) - began))
    systemctl kill --kill-whom=main --signal=CONT systemd-journald
    expect "the result: $(property Result)" is Result success
    expect "stopped after $took ms" [ $took -le 10000 ]
    echo "      stopped within $took ms"
}

# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

all() { sed -n 's/^\([a-z_]*_[a-z_]*_[a-z_]*\)() {$/\1/p' "$0"; }

mkdir -p $work /srv/store
/rig/contrib/install.sh /rig/sealift >/run/installed || exit 1
useradd --no-create-home --groups sealift recorder
systemd-run --quiet --unit=rig-receiver /rig/receiver receive --listen 127.0.0.1:8490 --store /srv/store
within 10 "the receiver listens" receiver_answers
peer between 8491
peer refusing 8493

passed=0 failed=0
for check in $([ $# -gt 0 ] && echo "$@" || all); do
    fresh
    began=$(now_ms)
    # In a process of its own, where -e is not switched off by an `if`.
    (set -e; "$check") >/run/check.out 2>&1
    code=$?
    took=$(($(now_ms) - began))
    if [ $code = 0 ]; then
        passed=$((passed + 1))
        printf 'ok     %s (%d.%d s)\n' "${check//_/ }" $((took / 1000)) $((took % 1000 / 100))
        cat /run/check.out
    else
        failed=$((failed + 1))
        printf 'FAILED %s (%d.%d s)\n' "${check//_/ }" $((took / 1000)) $((took % 1000 / 100))
        cat /run/check.out
        systemctl status sealift --no-pager --lines 0 | sed 's/^/      | /'
        journal -o short-precise | tail -40 | cut -c1-300 | sed 's/^/      | /'
    fi
done
printf 'systemd rig: %d passed, %d failed\n' $passed $failed
[ $failed = 0 ]
