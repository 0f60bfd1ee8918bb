#!/bin/bash
# How long the certificates of this node are valid: a line for each. Exit code 1 when one is valid for less than the first argument says, in days; below the second it only warns. Reads the two times
# in a certificate as they stand there (RFC 5280, 4.1.2.5), so that nothing needs to be installed for it. Further arguments: what to look at, else all there is.
set -uo pipefail
fail_days=$1 warn_days=$2
now=$(date +%s)
bad=()

# The certificates in PEM on the standard input: the end of the first one, in seconds.
end_of() {
  local times
  mapfile -t times < <(sed '/-----END/q' | sed '/-----/d' | base64 --decode 2>/dev/null | grep --text --only-matching --extended-regexp '[0-9]{12,14}Z')
  local end=${times[1]-}
  [ "${#end}" != 13 ] || end=20$end
  [ "${#end}" = 15 ] || return 1
  date --utc --date="${end:0:8} ${end:8:2}:${end:10:2}:${end:12:2}" +%s
}

look() {
  local name=$1 end days
  if ! end=$(end_of); then
    bad+=("$name cannot be read")
    return
  fi
  days=$(((end - now) / 86400))
  local text
  text="$name: valid for $days days, until $(date --utc --date="@$end" +%F)"
  if [ "$days" -lt "$fail_days" ]; then bad+=("$text")
  elif [ "$days" -lt "$warn_days" ]; then text="WARNING: $text"
  fi
  echo "$text"
}

for file in /etc/kubernetes/pki/*.crt /etc/kubernetes/pki/etcd/*.crt /var/lib/kubelet/pki/kubelet-client-current.pem; do
  ! [ -e "$file" ] || look "$file" < <(sed --quiet '/-----BEGIN CERTIFICATE/,$p' "$file")
done
for file in /etc/kubernetes/*.conf; do
  # That of the kubelet names a file, which is above.
  ! grep --quiet client-certificate-data "$file" 2>/dev/null || look "$file" < <(sed --quiet 's/^ *client-certificate-data: //p' "$file" | base64 --decode)
done
[ "${#bad[@]}" = 0 ] && exit 0
echo "certificates of this node end in less than $fail_days days (lichen run renewCertificates): $(printf '%s; ' "${bad[@]}")" >&2
exit 1
