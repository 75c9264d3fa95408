{{/* Namespaced objects carry the release's name; objects of the whole cluster carry a fixed one, see guard.yaml. */}}
{{- define "zerogate.autoscaler" -}}{{ .Release.Name }}-autoscaler{{- end -}}
{{- define "zerogate.gateway" -}}{{ .Release.Name }}-gateway{{- end -}}
{{- define "zerogate.activator" -}}{{ .Release.Name }}-activator{{- end -}}
{{- define "zerogate.secret" -}}{{ .Release.Name }}-webhook{{- end -}}
{{- define "zerogate.certificate" -}}
{{- if .Values.certificates.certManager.enabled -}}{{ .Release.Name }}-certificate{{- else -}}{{ include "zerogate.secret" . }}{{- end -}}
{{- end -}}
{{- define "zerogate.stats" -}}{{ .Release.Name }}-autoscaler-stats.{{ .Release.Namespace }}.svc:8090{{- end -}}

{{- define "zerogate.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}{{ $image.repository }}@{{ $image.digest }}
{{- else -}}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{- end -}}
{{- end -}}

{{- define "zerogate.host" -}}
{{- if contains ":" .Values.listenHost -}}[{{ .Values.listenHost }}]{{- else -}}{{ .Values.listenHost }}{{- end -}}
{{- end -}}

{{/* An address of a family that nobody listens on would be in the names and refuse. */}}
{{- define "zerogate.families" -}}
ipFamilyPolicy: {{ if contains ":" .Values.listenHost }}PreferDualStack{{ else }}SingleStack{{ end }}
{{- end -}}

{{/* With the context: labels of everything. */}}
{{- define "zerogate.labels" -}}
app.kubernetes.io/name: zerogate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* With (context, role): what selects a role's pods. */}}
{{- define "zerogate.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: zerogate
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "zerogate.roleLabels" -}}
{{ include "zerogate.labels" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}
