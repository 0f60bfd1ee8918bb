/**
 * The fields of kubeadm's configuration as its reference lists them (kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta3, .v1beta4; pkg.go.dev for v1beta2), as far as the blueprints could
 * use them. Strict: kubeadm only warns of a field that it does not know, and then does without it.
 */
import { type TObject, type TProperties, Type } from '@sinclair/typebox'

export type KubeadmApi = 'v1beta2' | 'v1beta3' | 'v1beta4'

const object = (properties: TProperties): TObject => Type.Object(properties, { additionalProperties: false })
const optional = (properties: TProperties): TObject => object(Object.fromEntries(Object.entries(properties).map(([name, schema]) => [name, Type.Optional(schema)])))
const Text = Type.String()
const Texts = Type.Array(Text)
const Flag = Type.Boolean()

/** Schemas by kind, each with `apiVersion` and `kind`. */
export function kubeadmSchemas(api: KubeadmApi): Readonly<Record<string, TObject>> {
  const since = (first: KubeadmApi, properties: TProperties): TProperties => (api >= first ? properties : {})
  const until = (last: KubeadmApi, properties: TProperties): TProperties => (api <= last ? properties : {})
  const Arguments = api === 'v1beta4' ? Type.Array(object({ name: Text, value: Text })) : Type.Record(Text, Text)
  const component = { extraArgs: Arguments, extraVolumes: Type.Array(Type.Unknown()), ...since('v1beta4', { extraEnvs: Type.Array(Type.Unknown()) }) }
  const Taint = Type.Object({ key: Text, effect: Text, value: Type.Optional(Text) })
  const NodeRegistration = optional({
    name: Text, criSocket: Text, taints: Type.Array(Taint), kubeletExtraArgs: Arguments, ignorePreflightErrors: Texts,
    ...since('v1beta3', { imagePullPolicy: Text }), ...since('v1beta4', { imagePullSerial: Flag }),
  })
  const LocalApiEndpoint = optional({ advertiseAddress: Text, bindPort: Type.Integer() })
  const head = (kind: string): TProperties => ({ apiVersion: Type.Literal(`kubeadm.k8s.io/${api}`), kind: Type.Literal(kind) })
  const common = { ...since('v1beta3', { skipPhases: Texts, patches: optional({ directory: Text }) }), ...since('v1beta4', { dryRun: Flag, timeouts: Type.Object({}) }) }
  const whole = (kind: string, required: TProperties, rest: TProperties): TObject => object({ ...head(kind), ...required, ...optional(rest).properties })
  return {
    InitConfiguration: whole('InitConfiguration', {}, { bootstrapTokens: Type.Array(Type.Unknown()), nodeRegistration: NodeRegistration, localAPIEndpoint: LocalApiEndpoint, certificateKey: Text, ...common }),
    ClusterConfiguration: whole('ClusterConfiguration', {}, {
      etcd: optional({
        local: optional({ imageRepository: Text, imageTag: Text, dataDir: Text, extraArgs: Arguments, serverCertSANs: Texts, peerCertSANs: Texts, ...since('v1beta4', { extraEnvs: Type.Array(Type.Unknown()) }) }),
        // The files are needed with TLS.
        external: object({ endpoints: Texts, ...optional({ caFile: Text, certFile: Text, keyFile: Text }).properties }),
      }),
      networking: optional({ serviceSubnet: Text, podSubnet: Text, dnsDomain: Text }),
      kubernetesVersion: Text, controlPlaneEndpoint: Text,
      apiServer: optional({ ...component, certSANs: Texts, ...until('v1beta3', { timeoutForControlPlane: Text }) }),
      controllerManager: optional(component), scheduler: optional(component),
      dns: optional({ imageRepository: Text, imageTag: Text, ...until('v1beta2', { type: Text }), ...since('v1beta4', { disabled: Flag }) }),
      certificatesDir: Text, imageRepository: Text, featureGates: Type.Record(Text, Flag), clusterName: Text,
      ...until('v1beta2', { useHyperKubeImage: Flag }),
      ...since('v1beta4', { proxy: optional({ disabled: Flag }), encryptionAlgorithm: Text, certificateValidityPeriod: Text, caCertificateValidityPeriod: Text }),
    }),
    JoinConfiguration: whole('JoinConfiguration', {
      discovery: optional({
        bootstrapToken: object({ token: Text, apiServerEndpoint: Type.Optional(Text), caCertHashes: Type.Optional(Texts), unsafeSkipCAVerification: Type.Optional(Flag) }),
        file: Type.Unknown(), tlsBootstrapToken: Text, ...until('v1beta3', { timeout: Text }),
      }),
    }, { nodeRegistration: NodeRegistration, caCertPath: Text, controlPlane: optional({ localAPIEndpoint: LocalApiEndpoint, certificateKey: Text }), ...common }),
  }
}
