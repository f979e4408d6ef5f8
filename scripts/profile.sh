#!/usr/bin/env bash
# Where the processor time of a measure goes: perf beside `flannel-udp bench`, one mode after the
# other. Each sample of both processors counts for the innermost of its callers that has a class of
# its own; the classes add up to the CPU row of the bench. Prints a Markdown table.
#
#   scripts/profile.sh [MEASURE [MODE...]]      (default: tcp4 vxlan flannel-udp)
#   UNDERLAY=veth scripts/profile.sh ...        (default: nic)
#
# Needs root, linux-perf, and a machine with nobody else on it.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v perf >/dev/null || { echo "perf is missing: apt-get install linux-perf (Ubuntu: linux-tools-generic)" >&2; exit 1; }
[ -x target/release/flannel-udp ] || { echo "the program is not built: make build" >&2; exit 1; }

measure=${1:-tcp4}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- vxlan flannel-udp

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

profile() { # MODE
    local bench began
    target/release/flannel-udp bench --rounds 1 --seconds 8 --underlay "${UNDERLAY:-nic}" \
        --only "$measure" --modes "$1" >"$scratch/table" 2>"$scratch/progress" &
    bench=$!
    # Labs are built, then the measure begins; it is well under way a second later.
    began=$SECONDS
    until grep -q building "$scratch/progress" || [ $((SECONDS - began)) -gt 20 ]; do sleep 0.2; done
    sleep 5
    perf record -q -a -g -F 1999 -o "$scratch/samples" -- sleep 4 >/dev/null 2>&1 ||
        { wait "$bench" || true; echo "perf record failed: it needs root and perf_event_paranoid below 1" >&2; exit 1; }
    wait "$bench" || { cat "$scratch/progress" >&2; exit 1; }
    perf script -i "$scratch/samples" -F comm,ip,sym 2>/dev/null |
        awk -v mode="$1" -v cost="$(sed -n "s/^| $measure (CPU .*) | \*\*\([0-9.]*\).*/\1/p" "$scratch/table" | head -n 1)" '
        function class_of(symbol) {
            if (symbol ~ /^(_copy_(from|to)_iter|rep_movs_|copy_user|csum_and_copy)/) return "copies to and from user space"
            if (symbol ~ /^(__)?schedule(_idle)?$|^try_to_wake_up|^do_sched_yield|^finish_task_switch/) return "waking up and switching"
            if (symbol ~ /gro_/) return "coalescing (GRO)"
            if (symbol ~ /skb_segment|gso_segment/) return "segmentation (GSO)"
            if (symbol ~ /^(entry_|do_syscall_|x64_sys_|__x64_sys_|__arm64_sys_|el0_|invoke_syscall|syscall_|__sys_|___sys_|____sys_|ksys_|vfs_|do_writev|do_recvmmsg|do_sys_poll|__import_iovec|import_iovec|iovec_|fdget|fput)/) return "entering and leaving system calls"
            if (symbol ~ /^flannel_udp::(packet|dataplane|sys|route)/) return "the daemon"
            if (symbol ~ /^vxlan_/) return "VXLAN device"
            if (symbol ~ /^tun_/) return "TUN device"
            if (symbol ~ /^(__)?(udp4?_|ip_make_skb|__ip_append_data|ip_generic_getfrag)/) return "UDP sockets"
            if (symbol ~ /^(__)?tcp_/) return "TCP"
            if (symbol ~ /^(veth_|br_|nf_|ip_|__dev_|dev_|__netif_|netif_|net_rx_action|process_backlog|napi_|__napi)/) return "links, bridges, routing"
            return ""
        }
        function count() {
            if (comm == "") return
            if (comm ~ /^swapper/) { if (!asleep) { all++; classes["interrupts and the rest"]++ } }
            else { all++; classes[found == "" ? "interrupts and the rest" : found]++ }
            comm = found = ""; asleep = 0
        }
        /^$/ { count(); next }
        /^[^ \t]/ { comm = $0; next }
        comm ~ /^ *$/ { next }
        { if ($2 ~ /halt|idle/) asleep = 1; if (found == "") found = class_of($2) }
        END { count(); for (class in classes) printf "%s\t%s\t%.4f\n", mode, class, cost * classes[class] / all; printf "%s\t~all\t%.4f\n", mode, cost }
        '
}

for mode in "$@"; do profile "$mode"; done | awk -F'\t' -v measure="$measure" '
    !($1 in seen) { seen[$1] = 1; modes[++count] = $1 }
    { value[$1, $2] = $3; if ($3 > most[$2]) most[$2] = $3 }
    END {
        unit = measure ~ /^tcp/ ? "ms/GB" : measure ~ /^rr/ ? "ns/round trip" : "ns/packet"
        printf "| %s, %s |", measure, unit
        for (i = 1; i <= count; i++) printf " `%s` |", modes[i]
        printf "\n|---|"
        for (i = 1; i <= count; i++) printf "---:|"
        print ""
        while (1) {
            best = ""
            for (class in most) if (class != "~all" && (best == "" || most[class] > most[best])) best = class
            if (best == "") best = "~all"
            printf "| %s |", best == "~all" ? "all" : best
            for (i = 1; i <= count; i++) printf " %.0f |", 1000 * value[modes[i], best]
            print ""
            if (best == "~all") break
            delete most[best]
        }
    }'
