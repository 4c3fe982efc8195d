#!/usr/bin/env bash
# Gets what the tests need beyond Go: a C compiler (for -race), Java 17, Redis, PostgreSQL, PgBouncer, MariaDB, Chromium, the Kafka
# broker's jars, OpenSearch's jars, and versitygw, an object store.
#
#   scripts/deps.sh
#
# Safe to run again at any time; does nothing, quickly, when all is there. Packages are installed with apt-get, as root
# only; without root it prints the line to run. The jars go to ${WEIRLINE_CACHE:-$HOME/.cache/weirline}/kafka-4.3.1, with
# an archive of their loaded classes that halves the time a broker takes to start; OpenSearch's (43 MB) go to opensearch-2.19.6
# in the same way, with a small launcher compiled from scripts/opensearch/TestNode.java. versitygw is built by go install (one or
# two minutes, 61 MB) into versitygw-1.8.0 beside them.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kafka_version=4.3.1
cache=${WEIRLINE_CACHE:-$HOME/.cache/weirline}
jars=$cache/kafka-$kafka_version
opensearch_version=2.19.6
opensearch=$cache/opensearch-$opensearch_version
versitygw_version=1.8.0
versitygw=$cache/versitygw-$versitygw_version

jvm=(-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1)

have() { command -v "$1" >/dev/null 2>&1; }

# Java's own answer, e.g. `openjdk version "17.0.15" 2025-04-15`; versions up to 8 say "1.8".
java_ok() {
  local major
  have java || return 1
  major=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
  [ "${major:-0}" -ge 17 ]
}

missing_packages() {
  have gcc || echo gcc
  java_ok || echo openjdk-17-jre-headless
  { [ -d "$jars" ] && [ -d "$opensearch" ]; } || have mvn || echo maven
  [ -d "$opensearch" ] || have javac || echo openjdk-17-jdk-headless
  have redis-server || echo redis-server
  have initdb || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || echo postgresql
  have mariadbd || [ -x /usr/sbin/mariadbd ] || echo mariadb-server
  have pgbouncer || [ -x /usr/sbin/pgbouncer ] || echo pgbouncer
  have chromium || have chromium-browser || have google-chrome || echo chromium
  [ -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ] || echo fonts-dejavu-core
}

# Debian asks policy-rc.d before a package starts its service; 101 means no. The tests start their own.
policy=/usr/sbin/policy-rc.d
wrote_policy=
forbid_service_starts() {
  [ ! -e "$policy" ] || return 0
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  wrote_policy=yes
}

tmp=
cleanup() {
  [ -z "$wrote_policy" ] || rm -f "$policy"
  [ -z "$tmp" ] || rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

install_packages() {
  if ! have apt-get; then
    echo "deps.sh: missing, and no apt-get here; install by hand what these Debian packages hold: $*" >&2
    exit 1
  fi
  if [ "$(id -u)" != 0 ]; then
    echo "deps.sh: packages are missing; run as root, then start again:" >&2
    echo "  apt-get update && apt-get install -y --no-install-recommends $*" >&2
    exit 1
  fi
  forbid_service_starts
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}

# Into a temporary directory first, then renamed: an interrupted download never looks like a whole one.
fetch_kafka() {
  mkdir -p "$cache"
  tmp=$(mktemp -d "$cache/.kafka.XXXXXX")
  mvn -B -q -ntp -f "$here/kafka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$tmp"
  ls "$tmp"/kafka_2.13-"$kafka_version".jar >/dev/null
  chmod 755 "$tmp"
  if mv -T "$tmp" "$jars" 2>/dev/null; then tmp=; fi
  [ -d "$jars" ] # when two runs race, the first one's copy is as good
}

# save_classes JARS PORT ARGUMENTS...: runs java with ARGUMENTS until PORT is open, and has the JVM save its classes when it ends. The
# archive holds the jars' paths, so they must be in their final place. Nothing depends on it but time: a failure is only reported.
save_classes() {
  local dir=$1 port=$2 pid
  shift 2
  java "${jvm[@]}" -cp "$dir/*" "-XX:ArchiveClassesAtExit=$tmp/classes.jsa" "$@" >>"$tmp/log" 2>&1 &
  pid=$!
  for _ in $(seq 300); do
    ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  kill "$pid" 2>/dev/null || true
  wait "$pid" || true # 143: ended by the signal
  if ! mv "$tmp/classes.jsa" "$dir/classes.jsa"; then
    echo "deps.sh: no class archive in $dir; its servers will start more slowly:" >&2
    tail -n 5 "$tmp/log" >&2
  fi
  rm -rf "$tmp"
  tmp=
}

archive_kafka() {
  local port=$((20000 + RANDOM % 9999))
  tmp=$(mktemp -d "$cache/.kafka.XXXXXX")
  cat >"$tmp/server.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
log.dirs=$tmp/data
EOF
  java "${jvm[@]}" -cp "$jars/*" kafka.tools.StorageTool format -t d2VpcmxpbmUtdGVzdC1rYQ -c "$tmp/server.properties" >"$tmp/log" 2>&1
  save_classes "$jars" "$port" kafka.Kafka "$tmp/server.properties"
}

archive_opensearch() {
  local port=$((20000 + RANDOM % 9999))
  tmp=$(mktemp -d "$cache/.opensearch.XXXXXX")
  mkdir "$tmp/config"
  save_classes "$opensearch" "$port" TestNode "path.home=$tmp" node.name=once discovery.type=single-node network.host=127.0.0.1 \
    "http.port=$port" "transport.port=$((port + 1))"
}

# The jars have no launcher of their own: the distribution's is replaced by ours, compiled beside them.
fetch_opensearch() {
  mkdir -p "$cache"
  tmp=$(mktemp -d "$cache/.opensearch.XXXXXX")
  mvn -B -q -ntp -f "$here/opensearch/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$tmp"
  ls "$tmp"/opensearch-"$opensearch_version".jar >/dev/null
  javac -cp "$tmp/*" -d "$tmp/classes" "$here/opensearch/TestNode.java"
  jar -cf "$tmp/testnode.jar" -C "$tmp/classes" . # the class archive takes jars only
  rm -r "$tmp/classes"
  chmod 755 "$tmp"
  if mv -T "$tmp" "$opensearch" 2>/dev/null; then tmp=; fi
  [ -d "$opensearch" ] # when two runs race, the first one's copy is as good
  [ -z "$tmp" ] || rm -rf "$tmp"
  tmp=
}

# Outside the repository, so that its go.mod plays no part.
build_versitygw() {
  mkdir -p "$cache"
  tmp=$(mktemp -d "$cache/.versitygw.XXXXXX")
  (cd "$tmp" && CGO_ENABLED=0 GOFLAGS='' GOBIN=$tmp go install "github.com/versity/versitygw/cmd/versitygw@v$versitygw_version")
  chmod 755 "$tmp"
  if mv -T "$tmp" "$versitygw" 2>/dev/null; then tmp=; fi
  [ -x "$versitygw/versitygw" ] # when two runs race, the first one's copy is as good
  [ -z "$tmp" ] || rm -rf "$tmp"
  tmp=
}

packages=$(missing_packages)
# shellcheck disable=SC2086  # a list of words
[ -z "$packages" ] || install_packages $packages
[ -d "$jars" ] || fetch_kafka
[ -e "$jars/classes.jsa" ] || archive_kafka
[ -d "$opensearch" ] || fetch_opensearch
[ -e "$opensearch/classes.jsa" ] || archive_opensearch
[ -d "$versitygw" ] || build_versitygw
