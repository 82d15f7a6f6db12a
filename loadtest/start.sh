#!/bin/sh
# Starts the operator (OPERATOR, a release build) in the background as the user of KUBECONFIG, without pods, its log
# appended to LOG, and prints its pid.
nohup "${OPERATOR:?the built database-operator}" run --kubeconfig "$KUBECONFIG" --statefulset-replicas 0 \
  --workers "${WORKERS:-10}" --member load --health-address 127.0.0.1:18080 ${OPERATOR_ARGS:-} >> "$LOG" 2>&1 < /dev/null &
echo $!
