// Package manifest reads manifests: the kinds that Tollgate acts on, where each
// field of each object stands, and what is wrong with them taken one by one.
// What objects mean together is for package compile.
//
// The kinds follow the public schema of hub.traefik.io/v1alpha1, so that
// manifests written for Traefik Hub load unchanged.
package manifest

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Group and Version are those of all kinds here but Secret.
const (
	Group   = "hub.traefik.io"
	Version = "v1alpha1"
)

// BurstAnnotation on an APIPlan says how many tokens its rate limit's bucket
// holds.
const BurstAnnotation = "tollgate.dev/burst"

// Ignored stands for a field that Traefik Hub knows and Tollgate does not act on.
type Ignored struct{}

// API is something that can be subscribed to.
type API struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Source            `json:"-"`

	Spec   APISpec `json:"spec"`
	Status Ignored `json:"status"`
}

// APISpec is the spec of an API.
type APISpec struct {
	Title       string       `json:"title"`
	Description string       `json:"description"`
	OpenAPISpec *OpenAPISpec `json:"openApiSpec"`
	// Versions name APIVersions. Their operation sets count as the API's own.
	Versions []NameRef `json:"versions"`
	CORS     Ignored   `json:"cors"`
}

// APIVersion is one release of an API.
type APIVersion struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Source            `json:"-"`

	Spec   APIVersionSpec `json:"spec"`
	Status Ignored        `json:"status"`
}

// APIVersionSpec is the spec of an APIVersion.
type APIVersionSpec struct {
	Title       string       `json:"title"`
	Description string       `json:"description"`
	Release     string       `json:"release"` // a semantic version, "v" optional
	OpenAPISpec *OpenAPISpec `json:"openApiSpec"`
	CORS        Ignored      `json:"cors"`
}

// OpenAPISpec names sets of operations. The OpenAPI document itself is not read.
type OpenAPISpec struct {
	Path          string         `json:"path"`
	URL           string         `json:"url"`
	OperationSets []OperationSet `json:"operationSets"`

	Override                     Ignored `json:"override"`
	RefreshInterval              Ignored `json:"refreshInterval"`
	ValidateRequestBodySchema    Ignored `json:"validateRequestBodySchema"`
	ValidateRequestMethodAndPath Ignored `json:"validateRequestMethodAndPath"`
}

// OperationSet is operations under one name. Its matchers are alternatives.
type OperationSet struct {
	Name     string    `json:"name"`
	Matchers []Matcher `json:"matchers"`
}

// Matcher describes operations: at most one criterion for the path, and methods.
type Matcher struct {
	Methods    []string `json:"methods"`
	Path       string   `json:"path"`
	PathPrefix string   `json:"pathPrefix"`
	PathRegex  string   `json:"pathRegex"`
}

// APIBundle is APIs under one name.
type APIBundle struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Source            `json:"-"`

	Spec   APIBundleSpec `json:"spec"`
	Status Ignored       `json:"status"`
}

// APIBundleSpec is the spec of an APIBundle.
type APIBundleSpec struct {
	Title       string                `json:"title"`
	APISelector *metav1.LabelSelector `json:"apiSelector"`
	APIs        []NameRef             `json:"apis"`
}

// APIPlan says how much may be used.
type APIPlan struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Source            `json:"-"`

	Spec   APIPlanSpec `json:"spec"`
	Status Ignored     `json:"status"`
}

// APIPlanSpec is the spec of an APIPlan.
type APIPlanSpec struct {
	Title       string `json:"title"`
	Description string `json:"description"`
	RateLimit   *Limit `json:"rateLimit"`
	Quota       *Limit `json:"quota"`
}

// Limit is an amount for each period.
type Limit struct {
	Limit  *int64 `json:"limit"`
	Period string `json:"period"`
	Bucket string `json:"bucket"`
}

// ManagedApplication is a consumer of APIs, with its keys.
type ManagedApplication struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Source            `json:"-"`

	Spec   ManagedApplicationSpec `json:"spec"`
	Status Ignored                `json:"status"`
}

// ManagedApplicationSpec is the spec of a ManagedApplication.
type ManagedApplicationSpec struct {
	AppID   string   `json:"appId"`
	Owner   string   `json:"owner"`
	Notes   string   `json:"notes"`
	APIKeys []APIKey `json:"apiKeys"`
}

// APIKey is a digest, in a Secret or inline.
type APIKey struct {
	Title      string `json:"title"`
	SecretName string `json:"secretName"`
	Value      string `json:"value"`
	Suspended  bool   `json:"suspended"`
}

// Secret is the core/v1 kind. Its field "key" holds a digest.
type Secret struct {
	corev1.Secret `json:",inline"`
	Source        `json:"-"`
}

// ManagedSubscription lets applications call APIs under a plan.
type ManagedSubscription struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Source            `json:"-"`

	Spec   ManagedSubscriptionSpec `json:"spec"`
	Status Ignored                 `json:"status"`
}

// ManagedSubscriptionSpec is the spec of a ManagedSubscription. Lists, selectors
// and bundles add up.
type ManagedSubscriptionSpec struct {
	APIPlan                    NameRef               `json:"apiPlan"`
	ManagedApplications        []NameRef             `json:"managedApplications"`
	ManagedApplicationSelector *metav1.LabelSelector `json:"managedApplicationSelector"`
	Applications               []AppIDRef            `json:"applications"` // deprecated
	APIs                       []NameRef             `json:"apis"`
	APISelector                *metav1.LabelSelector `json:"apiSelector"`
	APIBundles                 []NameRef             `json:"apiBundles"`
	// OperationFilter is nil where all operations are allowed.
	OperationFilter *OperationFilter `json:"operationFilter"`
	Weight          int64            `json:"weight"`
	Claims          string           `json:"claims"`
}

// APICatalogItem says who finds APIs in a portal. Finding is not calling: it
// grants nothing here, and only its references are checked.
type APICatalogItem struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Source            `json:"-"`

	Spec   APICatalogItemSpec `json:"spec"`
	Status Ignored            `json:"status"`
}

// APICatalogItemSpec is the spec of an APICatalogItem.
type APICatalogItemSpec struct {
	Groups          []string              `json:"groups"`
	Everyone        bool                  `json:"everyone"`
	APIs            []NameRef             `json:"apis"`
	APISelector     *metav1.LabelSelector `json:"apiSelector"`
	APIBundles      []NameRef             `json:"apiBundles"`
	OperationFilter *OperationFilter      `json:"operationFilter"`
	APIPlan         *NameRef              `json:"apiPlan"`
}

// APIAuth says where Traefik Hub finds the credentials of requests. Here that is
// for each middleware to say.
type APIAuth struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Source            `json:"-"`

	Spec   APIAuthSpec `json:"spec"`
	Status Ignored     `json:"status"`
}

// APIAuthSpec is the spec of an APIAuth.
type APIAuthSpec struct {
	IsDefault bool        `json:"isDefault"`
	APIKey    *APIAuthKey `json:"apiKey"`
	JWT       Ignored     `json:"jwt"`
	LDAP      Ignored     `json:"ldap"`
}

// APIAuthKey is authentication by API key.
type APIAuthKey struct {
	KeySource KeySource `json:"keySource"`
}

// KeySource is where requests have their key.
type KeySource struct {
	Header           string `json:"header"`
	HeaderAuthScheme string `json:"headerAuthScheme"`
	Query            string `json:"query"`
}

// APIAccess is a kind that is no more. It let groups of users call APIs.
type APIAccess struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Source            `json:"-"`

	Spec   APIAccessSpec `json:"spec"`
	Status Ignored       `json:"status"`
}

// APIAccessSpec is the spec of an APIAccess. The last three fields came late:
// most have none of them.
type APIAccessSpec struct {
	Groups          []string              `json:"groups"`
	Everyone        bool                  `json:"everyone"`
	APIs            []NameRef             `json:"apis"`
	APISelector     *metav1.LabelSelector `json:"apiSelector"`
	OperationFilter *OperationFilter      `json:"operationFilter"`
	APIBundles      []NameRef             `json:"apiBundles"`
	APIPlan         *NameRef              `json:"apiPlan"`
	Weight          int64                 `json:"weight"`
}

// APIRateLimit is a kind that is no more. It limited how often groups of users
// called APIs.
type APIRateLimit struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Source            `json:"-"`

	Spec   APIRateLimitSpec `json:"spec"`
	Status Ignored          `json:"status"`
}

// APIRateLimitSpec is the spec of an APIRateLimit.
type APIRateLimitSpec struct {
	Limit       *int64                `json:"limit"`
	Period      string                `json:"period"`
	Strategy    Ignored               `json:"strategy"` // who counts
	Groups      []string              `json:"groups"`
	Everyone    bool                  `json:"everyone"`
	APIs        []NameRef             `json:"apis"`
	APISelector *metav1.LabelSelector `json:"apiSelector"`
}

// NameRef refers to an object of the same namespace.
type NameRef struct {
	Name string `json:"name"`
}

// AppIDRef refers to an application of the same namespace by its App ID.
type AppIDRef struct {
	AppID string `json:"appId"`
}

// OperationFilter allows the operations of the named sets, and no others.
type OperationFilter struct {
	Include []string `json:"include"`
}

// restricting are the fields whose absence allows more than their presence. One
// that is written without a value, as when the lines below it were commented
// out, is refused rather than taken for absent.
var restricting = map[string]bool{
	"operationFilter": true, "rateLimit": true, "quota": true, "suspended": true, "claims": true,
	"path": true, "pathPrefix": true, "pathRegex": true, "methods": true,
	"matchLabels": true, "matchExpressions": true,
}

// passedOver are the kinds of Group that Tollgate knows and does not act on.
var passedOver = map[string]bool{
	"AccessControlPolicy": true, "AIService": true, "APIPortal": true, "APIPortalAuth": true,
	"Content": true, "ContentItem": true, "EdgeIngress": true, "Uplink": true,
}

// replaced are the kinds of Group that are no more and that nothing here reads,
// and what to write instead.
var replaced = map[string]string{
	"APICollection": "write an APIBundle instead",
	"APIGateway":    "expose the API with an IngressRoute and the Tollgate middleware instead",
}
