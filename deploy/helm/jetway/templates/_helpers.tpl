{{- define "jetway.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "jetway.labels" -}}
app.kubernetes.io/name: jetway
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Takes (list . "role"): the labels that select a role's pods. */}}
{{- define "jetway.selector" -}}
app.kubernetes.io/name: jetway
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Takes (list . "role"): annotations of its pods. A changed secret of the chart's starts them anew. */}}
{{- define "jetway.annotations" -}}
{{- $top := index . 0 }}{{ $role := index . 1 -}}
{{- if eq $role "worker" }}
checksum/dsn: {{ $top.Values.postgres.dsn | sha256sum | quote }}
{{- end }}
{{- with (index $top.Values $role).annotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Takes (list . "role"): where its pods run. */}}
{{- define "jetway.place" -}}
{{- $role := index (index . 0).Values (index . 1) -}}
{{- with $role.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $role.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $role.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with (index . 0).Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Takes (list . "role"): one pod of a role on each node, as far as there are so many. */}}
{{- define "jetway.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: {matchLabels: {{ include "jetway.selector" . | fromYaml | toJson }}}
{{- end }}

{{/* Takes (list . "secret of the nkey"), mounts and volumes perhaps "secret of the token keys", too: variables of all roles. */}}
{{- define "jetway.nats" -}}
- {name: NATS_URL, value: {{ (index . 0).Values.nats.url | quote }}}
{{- if index . 1 }}
- {name: JETWAY_NKEY, value: /run/jetway/nkey/nk}
{{- end }}
{{- if (index . 0).Values.nats.caSecret }}
- {name: JETWAY_TLS_CA, value: /run/jetway/ca/ca.pem}
{{- end }}
{{- end }}

{{/* Variables that values give a role. */}}
{{- define "jetway.env" -}}
{{- range $name, $value := . }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- define "jetway.mounts" -}}
{{- if index . 1 }}
- {name: nkey, mountPath: /run/jetway/nkey, readOnly: true}
{{- end }}
{{- if and (gt (len .) 2) (index . 2) }}
- {name: token-keys, mountPath: /run/jetway/token-keys, readOnly: true}
{{- end }}
{{- if (index . 0).Values.nats.caSecret }}
- {name: ca, mountPath: /run/jetway/ca, readOnly: true}
{{- end }}
{{- end }}

{{- define "jetway.volumes" -}}
{{- if index . 1 }}
- {name: nkey, secret: {secretName: {{ index . 1 }}, defaultMode: 0440}}
{{- end }}
{{- if and (gt (len .) 2) (index . 2) }}
- {name: token-keys, secret: {secretName: {{ index . 2 }}, defaultMode: 0440}}
{{- end }}
{{- if (index . 0).Values.nats.caSecret }}
- {name: ca, secret: {secretName: {{ (index . 0).Values.nats.caSecret }}}}
{{- end }}
{{- end }}

{{- define "jetway.closed" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "jetway.user" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "jetway.probes" -}}
startupProbe: {httpGet: {path: /healthz, port: metrics}, periodSeconds: 2, failureThreshold: 60}
livenessProbe: {httpGet: {path: /healthz, port: metrics}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3}
readinessProbe: {httpGet: {path: /readyz, port: metrics}, periodSeconds: 5, timeoutSeconds: 5}
{{- end }}

{{/* Takes (list . "role"). */}}
{{- define "jetway.disruption" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ (index . 0).Release.Name }}-{{ index . 1 }}
  labels: {{- include "jetway.labels" (index . 0) | nindent 4 }}
spec:
  {{- toYaml (index (index . 0).Values (index . 1)).disruptionBudget | nindent 2 }}
  selector: {matchLabels: {{ include "jetway.selector" . | fromYaml | toJson }}}
{{- end }}
