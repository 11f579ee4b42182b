{{- define "podsonar.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* The release's name is enough where it says podsonar already. */ -}}
{{- define "podsonar.fullname" -}}
{{- $name := include "podsonar.name" . -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{ .Values.fullnameOverride | default $full | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- /* What chooses the agents' pods. It can never change: a DaemonSet keeps its selector. */ -}}
{{- define "podsonar.selector" -}}
app.kubernetes.io/name: {{ include "podsonar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "podsonar.labels" -}}
{{ include "podsonar.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "podsonar.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "podsonar.fullname" .) "default") }}
{{- end }}

{{- define "podsonar.image" -}}
{{- $name := list .Values.image.registry .Values.image.repository | compact | join "/" -}}
{{- if .Values.image.digest -}}
{{ $name }}@{{ .Values.image.digest }}
{{- else -}}
{{ $name }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- /* The configuration: what the user wrote, and what only the chart knows. */ -}}
{{- define "podsonar.config" -}}
{{- $own := dict "mesh" (dict "service" (include "podsonar.fullname" .)) -}}
{{- /* Where the ports are the usual ones the agent finds out by itself whether its node has IPv6. */ -}}
{{- if ne (int .Values.ports.metrics) 19988 }}
{{- $_ := set $own "listen" (printf "%s:%d" .Values.ports.address (int .Values.ports.metrics)) }}
{{- end }}
{{- if ne (int .Values.ports.mesh) 19989 }}
{{- $_ := set $own.mesh "listen" (printf "%s:%d" .Values.ports.address (int .Values.ports.mesh)) }}
{{- end }}
{{- mergeOverwrite (deepCopy .Values.config) $own | toYaml }}
{{- end }}

{{- /* What of the configuration a running agent does not take up: those marked ↻ in the README. */ -}}
{{- define "podsonar.restartingConfig" -}}
{{- $config := include "podsonar.config" . | fromYaml -}}
{{- $parts := pick $config "listen" "mesh" "log" "mtu" "preflight" "metrics" "series" -}}
{{- $_ := set $parts "probes" (pick ($config.probes | default dict) "size" "max_pps" "flows" "closed_port") -}}
{{- $_ := set $parts "exchange" (pick ($config.exchange | default dict) "allow_cidrs") -}}
{{- toJson $parts }}
{{- end }}

{{- /* Whether to make objects of prometheus-operator: called with (list $ "PodMonitor" .Values.podMonitor.enabled). */ -}}
{{- define "podsonar.operator" -}}
{{- $root := index . 0 }}{{ $kind := index . 1 }}{{ $enabled := index . 2 }}
{{- $known := $root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" $kind) }}
{{- if eq (toString $enabled) "auto" }}{{ $known | ternary "true" "" }}{{ else if $enabled }}true{{ end }}
{{- end }}

{{- /* What no cluster would run, said before one is asked. */ -}}
{{- define "podsonar.check" -}}
{{- if and .Values.hostNetwork (ne .Values.security.level "privileged") }}
{{- fail "hostNetwork needs security.level=privileged: the levels baseline and restricted forbid the node's network" }}
{{- end }}
{{- if and .Values.hostNetwork .Values.networkPolicy.enabled }}
{{- fail "networkPolicy.enabled has no effect with hostNetwork: a NetworkPolicy does not reach the node's network" }}
{{- end }}
{{- if eq (int .Values.ports.metrics) (int .Values.ports.mesh) }}
{{- fail "ports.metrics and ports.mesh must differ" }}
{{- end }}
{{- end }}
