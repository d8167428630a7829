#!/bin/sh
# Makes what servers with TLS and tokens need, with openssl 3:
#
#	sh secrets.sh DIR HOST...
#
# DIR gets an authority (ca.pem, and ca-key.pem, which no server needs), a certificate for all HOSTs,
# names or IP addresses (cert.pem, key.pem), tokens of middles, clients and operators (middle.token,
# client.token, ops.token), and the digests of these (read-tokens). What DIR has stays as it is, so
# remove cert.pem to renew the certificate: it is good for 825 days, the authority for ten years.
set -eu
umask 027

[ $# -ge 2 ] || { echo "usage: sh $0 DIR HOST..." >&2; exit 2; }
dir=$1
shift
mkdir -p "$dir"
cd "$dir"

if [ ! -e ca.pem ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
        -subj /CN=shardcast -keyout ca-key.pem -out ca.pem 2>openssl.log
    chmod 600 ca-key.pem
fi

if [ ! -e cert.pem ]; then
    names=
    for host; do
        case $host in
            *:*) kind=IP ;;
            *[!0-9.]*) kind=DNS ;;
            *) kind=IP ;;
        esac
        names=${names:+$names,}$kind:$host
    done
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" \
        -addext "subjectAltName=$names" -keyout key.pem.new -out request.pem 2>>openssl.log
    openssl x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -days 825 -copy_extensions copy \
        -out cert.pem.new 2>>openssl.log
    chmod 640 key.pem.new
    mv key.pem.new key.pem
    mv cert.pem.new cert.pem
    rm request.pem
fi
rm -f openssl.log

touch read-tokens
for name in middle client ops; do
    [ -e $name.token ] && continue
    openssl rand -hex 32 >$name.token
    role=
    [ $name = ops ] && role=' admin'
    echo "$name $(tr -d '\n' <$name.token | sha256sum | cut -d ' ' -f 1)$role" >>read-tokens
done
