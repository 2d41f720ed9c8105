#!/usr/bin/env bash
# Makes an authority and a certificate for each host of the example in DIR: DIR/NAME has what belongs into /etc/ssl/anteroom of that host
# (`chown root:ssl-cert host.key; chmod 0640 host.key`, and the users etcd and postgres in the group ssl-cert). Keep DIR/ca.key elsewhere.
# Usage: packaging/cluster/certificates.sh DIR NAME=ADDRESS[,ADDRESS] …     (Debian package: openssl)
set -euo pipefail
umask 077

[ $# -ge 2 ] || { echo "usage: packaging/cluster/certificates.sh DIR NAME=ADDRESS[,ADDRESS] …" >&2; exit 2; }
directory=$1
shift
mkdir -p "$directory"
new=(req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
if [ ! -e "$directory/ca.key" ]; then
  openssl "${new[@]}" -x509 -days 3650 -subj "/CN=Anteroom's databases" -keyout "$directory/ca.key" -out "$directory/ca.pem" 2>/dev/null
fi
for host in "$@"; do
  name=${host%%=*} addresses=IP:${host#*=}
  mkdir -p "$directory/$name"
  openssl "${new[@]}" -subj "/CN=$name" -keyout "$directory/$name/host.key" 2>/dev/null \
    | openssl x509 -req -days 825 -CA "$directory/ca.pem" -CAkey "$directory/ca.key" -out "$directory/$name/host.pem" \
      -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "${addresses//,/,IP:}") 2>/dev/null
  cp "$directory/ca.pem" "$directory/$name/"
done
