"""The formula of each row of zopog verify, by key, in LaTeX; browsers draw MathML without any script."""

# ruff: noqa: E501 (a formula to a line)

import re

from zopog_ref.app.packages import from_extra

_MACROS = {
    "E": r"\mathbb{E}", "norm": r"\|", "epsilon": r"\varepsilon",
    **{name: rf"\operatorname{{{name}}}" for name in ("tr", "Var", "Cov", "cov")},
}  # fmt: skip


def mathml(source: str) -> str:
    """A <math> element. Errors: ValueError for an unknown command or an open brace; MissingPackage without latex2mathml."""
    with from_extra():
        from latex2mathml.converter import convert
    if source.count("{") != source.count("}"):
        raise ValueError(f"a formula has an open brace, or a closing one too many: {source}")
    drawn = convert(re.sub(r"\\([A-Za-z]+)", lambda m: _MACROS.get(m[1], m[0]), source), display="block")
    if unknown := re.search(r"\\[A-Za-z]+", drawn):
        raise ValueError(f"a formula uses {unknown[0]}, which is not known here: {source}")
    return drawn


FORMULAS = {
    "S1": r"s_{ij} = \frac{\partial\,\log P(t\mid\alpha,g)}{\partial\,\alpha_{ij}} = \frac{1\{t_i=j\} - p_{ij}}{\tau\,\alpha_{ij}}",
    "S2": r"\E_t[\,s \mid g\,] = 0",
    "S3": r"\E_t\norm s_i\norm^2 = \sum_j \frac{p_{ij}(1-p_{ij})}{(\tau\alpha_{ij})^2}",
    "S3-bound": r"\E_t\norm s_i\norm^2 \le \frac{1-1/N}{(\tau\alpha_{\min})^2}",
    "S4": r"\norm s_i\norm^2 \le \frac{2(1-p_{i,t_i})^2}{(\tau\alpha_{\min})^2}",
    "S5": r"\sum_j \alpha_{ij} s_{ij} = 0",
    "S5-rows": r"\norm\alpha_i\norm \le \norm\max(\alpha_i - \eta\hat{g}_i,\,\alpha_{\min})\norm",
    "V1": r"\hat{g}_\alpha = \frac{1}{I-1}\sum_k (\ell_k - \bar{\ell})\,s^k",
    "V2": r"\frac{1}{I}\sum_k (\ell_k - \text{mean}_{m\neq k}\,\ell_m)\,s^k = \cov(\ell, s) = \hat{g}_\alpha",
    "V3": r"\hat{g}_{ij} = \frac{1}{(I-1)\,\tau\,\alpha_{ij}}\sum_{k:\,t^k_i=j}(\ell_k-\bar{\ell})",
    "V4": r"\E[\hat{g}_\alpha \mid B] = \nabla_\alpha \E_t\,\ell_B(t)",
    "V4-paper": r"\frac{\E\,\hat{g}_\alpha\cdot\nabla L}{\norm\nabla L\norm^2} = 1",
    "V5": r"\tr\Cov(\hat{g}) = \frac{\E[(\ell-m)^2\norm s\norm^2] - \norm G\norm^2}{I} + \frac{\Var(\ell)\,\E\norm s\norm^2 + \norm G\norm^2}{I(I-1)}",
    "V5-paper": r"\E\norm\hat{g}-G\norm^2 = \frac{\Var(\ell)\E\norm s\norm^2 - \norm G\norm^2}{I} + \frac{\Var(\ell)\E\norm s\norm^2 + \norm G\norm^2}{I(I-1)}",
    "V6": r"\tr\Cov(\hat{g}) \le \frac{\sigma_g^2}{I},\,\,\,\sigma_g^2 = \frac{5}{4}\,\frac{F^2\,n(1-1/N)}{(\tau\alpha_{\min})^2}",
    "V7-exact": r"\E\norm\hat{g}-\nabla L\norm^2 = v(\bar{f}) + \frac{1}{B}\E_\xi\,v(f_\xi-\bar{f}) + \frac{1}{B}\E_\xi\norm\nabla L_\xi-\nabla L\norm^2",
    "V7": r"\E\norm\hat{g}_\alpha-\nabla_\alpha L\norm^2 \le \frac{\sigma_g^2}{I} + \frac{\sigma_\alpha^2}{B}",
    "V7-noise": r"\E\norm\hat{g}-\nabla L\norm^2 = \E_g[\,\text{as above given }g\,] + \Var_g(\nabla_\alpha\E_t[\bar{f}\mid g])",
    "V7-exception": r"I(I-1)\,\tr\Cov(\hat{g}) = \Var(\ell)\,\E\norm s\norm^2 + \norm G\norm^2\,\text{ if }\,\tr\Cov(\,x\,s) = 0",
    "V7-reported": r"\E\norm\hat{g}_\alpha-\nabla_\alpha L\norm^2 \le \frac{2\sigma_g^2}{I^2} + \frac{2\sigma_\alpha^2}{B}",
    "G1": r"\E_g\,p_{i1} = \frac{r(c-\log r)}{c^2},\,\,\,r=\frac{\alpha_{i1}}{\alpha_{i2}},\,\,c=r-1",
    "G2": r"\tr\Cov(\hat{g}) = \E_g[\,\tr\Cov(\hat{g}\mid g)\,] + \Var_g(\nabla_\alpha\E_t[\ell\mid g])",
    "G3": r"\E\,\nabla_\alpha\E_t[\ell(t,z^+(g))\mid g] - \E\,\nabla_\alpha L(\alpha,z^+) = O(\eta_z)",
    "G4": r"\tr\Cov(\hat{g}_z\mid B) = \E_g[\,\text{Z5 given }g\,] + \Var_g(\nabla_z\E_t[\ell_B\mid g])",
    "G4-run": r"\E\norm\hat{g}_z-\nabla L\norm^2 = \text{Z5, and in one of three modes }\,+ \Var_g(\nabla_z\E_t[\ell\mid g])",
    "A1-alpha": r"L_\alpha = \frac{F(1+\tau)}{2\,\tau^2\,\alpha_{\min}^2}",
    "A1-z": r"\norm\nabla_z f(z)-\nabla_z f(z')\norm \le L_z\norm z-z'\norm",
    "A2-alpha": r"\E_\xi\norm\nabla_\alpha L_\xi-\nabla_\alpha L\norm^2 \le \sigma_\alpha^2 = \frac{F^2}{4}\,\frac{n(1-1/N)}{(\tau\alpha_{\min})^2}",
    "A2-z": r"\E_{t,\xi}\norm\nabla_z f-\nabla_z L\norm^2 \le \sigma_z^2 \le \max\norm\nabla_z f\norm^2 \le L_z F",
    "A3": r"0 \le f(t,z;\xi) \le F",
    "A4": r"\alpha_{\min} \le \alpha_{ij},\,\,\,\max\mid\hat{g}_{ij}\mid = \frac{F\,I}{4(I-1)\,\tau\,\alpha_{\min}}",
    "A4-limit": r"\alpha_{\min} \le \alpha_{ij}\,\text{ with }\,\eta_\alpha = 1/L_\alpha",
    "Z1": r"\hat{g}_z = \frac{1}{I_2}\sum_k u_k\,\frac{\ell_B(t^k,z+\mu u_k)-\ell_B(t^k,z-\mu u_k)}{2\mu}",
    "Z1b": r"\hat{g}_z = \frac{1}{I_2B}\sum_{k,b} u_{kb}\,\frac{f(t^k,z+\mu u_{kb};\xi_b)-f(t^k,z-\mu u_{kb};\xi_b)}{2\mu}",
    "Z2": r"\E\,\hat{g}_z = \nabla_z L_\mu,\,\,\,L_\mu(z)=\E_u L(z+\mu u)",
    "Z3-quadratic": r"\nabla L_\mu = \nabla L",
    "Z3": r"\norm\nabla L_\mu-\nabla L\norm \le \mu L_z\sqrt{d}",
    "Z3-hessian": r"\norm\nabla L_\mu-\nabla L\norm \le \frac{\rho\,\mu^2 d}{2}",
    "Z3-kink": r"\norm\nabla L_\mu(0)\norm = \mu\sqrt{\frac{d}{2\pi}}",
    "Z4-quadratic": r"\E\norm\hat{g}\norm^2 = (d+2)\norm\nabla h\norm^2",
    "Z4": r"\E\norm\hat{g}\norm^2 \le 2(d+2)\norm\nabla h\norm^2 + \frac{\mu^2L_z^2}{2}d(d+2)(d+4)",
    "Z5-exact": r"\tr\Cov(\hat{g}_z\mid B) = \frac{1}{I_2}[(d+2)\E_t\norm\nabla\ell_B\norm^2 - \norm\nabla L_B\norm^2]",
    "Z5": r"\E\norm\hat{g}_z-\nabla L_\mu\norm^2 \le \frac{1}{I_2}[2(d+2)(\norm\nabla L\norm^2+\sigma_z^2) + \frac{\mu^2L_z^2}{2}d(d+2)(d+4)] + \frac{\sigma_z^2}{B}",
    "Z5b-exact": r"\tr\Cov(\hat{g}_z\mid B) = \frac{1}{I_2}[\frac{d+1}{B}\text{mean}_b\E_t\norm\nabla f_b\norm^2 + \tr\Cov_t(\nabla\ell_B)]",
    "Z5b": r"\E\norm\hat{g}_z-\nabla L_\mu\norm^2 \le \frac{1}{I_2B}[\text{as in Z5}] + \frac{\sigma_z^2}{I_2} + \frac{\sigma_z^2}{B}",
    "D1": r"\E L(\alpha^+,z) - L \le -\frac{\eta_\alpha}{2}\norm\nabla_\alpha L\norm^2 + \frac{L_\alpha\eta_\alpha^2}{2}(\frac{\sigma_g^2}{I_1}+\frac{\sigma_\alpha^2}{B}+\gamma_\alpha^2)",
    "D2": r"\E L(\alpha,z^+) - L \le -\frac{\eta_z}{4}\norm\nabla_z L\norm^2 + \frac{\eta_z}{2}\mu^2L_z^2d + \frac{L_z\eta_z^2}{2}V",
    "D1b": r"\E L(\alpha^+,z) - L \le -\frac{\eta_\alpha}{4}\norm P\norm^2 + \frac{3\eta_\alpha}{2}(\frac{\sigma_g^2}{I_1}+\frac{\sigma_\alpha^2}{B}+\gamma_\alpha^2),\,\,\,P = \frac{\alpha-\max(\alpha-\eta_\alpha\nabla_\alpha L,\,\alpha_{\min})}{\eta_\alpha}",
    "D2-limit": r"\eta_z = \frac{1}{L_z}\min(1,\,\frac{I_2}{4(d+2)})",
    "D2-noise": r"\text{D2 with }\,V + \gamma_z^2,\,\,\,\gamma_z^2 \ge \Var_g(\nabla_z\E_t[f_\mu\mid g])",
    "Z5-first": r"\text{Z5 and D2 with }\,\gamma_z = 0",
    "T1-noise": r"\frac{1}{T}\sum_t\E[\frac{\eta_z}{4}\norm\nabla_z L\norm^2] \le \frac{L_0-\E L_T}{T} + \text{noise}(\text{D2}) + \frac{L_z\eta_z^2}{2}\gamma_z^2",
    "T1": r"\frac{1}{T}\sum_t\E[\frac{\eta_\alpha}{2}\norm\nabla_\alpha L\norm^2 + \frac{\eta_z}{4}\norm\nabla_z L\norm^2] \le \frac{L_0-L^*}{T} + \text{noise}(\text{D1}) + \text{noise}(\text{D2})",
    "T1-shared": r"\frac{1}{T}\sum_t\E[\cdots] \le \text{T1} + 2\eta_\alpha\eta_zL_{z\alpha}G\,m(1+L_z\eta_z) + \frac{L_z\eta_z^2}{2}[\frac{2(d+2)}{I_2}(2Sm+m^2)+m^2],\,\,\,m = O(\frac{S}{\sqrt{B}})",
    "T1-reuse": r"\frac{1}{T}\sum_t\E[\cdots] \le \text{T1} + 4\eta_\alpha\eta_zA\,L_{z\alpha}G_z + \frac{L_\alpha\eta_\alpha^2}{2}A^2",
    "T1-first": r"\text{T1 with one batch, or one noise, for two half steps and without a further term}",
    "T1b": r"\frac{1}{T}\sum_t\E[\frac{\eta_\alpha}{4}\norm P_t\norm^2 + \frac{\eta_z}{4}\norm\nabla_z L\norm^2] \le \frac{L_0-L^*}{T} + \text{noise}(\text{D1b}) + \text{noise}(\text{D2})",
    "W1": r"J(W - \frac{1}{L_W}\nabla J) \le J(W) - \frac{1}{2L_W}\norm\nabla J\norm^2",
    "W2": r"\frac{1}{T}\sum_t\E[\text{T1} + \frac{1}{2L_W}\norm\nabla_W R\norm^2] \le \frac{R_0-R^*}{T} + \text{noise}(\text{D1}) + \text{noise}(\text{D2})",
    "rate-I": r"\E\norm\hat{g}-G\norm^2 = \text{V5 at }\,I = 2, 4, \cdots, 256",
    "slope-I": r"\frac{d\log\Var}{d\log I} \approx -1",
    "slope-I-reported": r"\frac{d\log\Var}{d\log I} = -2",
    "rate-noise": r"\text{V5 over }(g,t),\,\,\,\text{or }\E_g[\text{V5 given }g] + \Var_g(\nabla_\alpha\E_t[\ell\mid g])",
    "rate-I2": r"\Var(\hat{g}_z) \propto I_2^{-1}",
    "rate-d": r"\Var(\hat{g}_z) = (d+1)\norm\nabla h\norm^2",
    "rate-mu": r"\E\norm\hat{g}_z\norm^2 \propto \mu^0",
    "rate-B": r"(d+1)\norm\nabla\ell_B\norm^2\,\text{ or }\,\frac{d+1}{B}\text{mean}_b\norm\nabla f_b\norm^2",
    "rate-bias": r"\norm\nabla L_\mu-\nabla L\norm \propto \mu^2,\,\text{ or }\,\mu^1\,\text{ at a kink}",
    "rate-float32": r"\E\norm\hat{g}_{32}-\hat{g}_{64}\norm^2 = \frac{d\,e^2}{2\mu^2}",
    "best-mu": r"\mu^* = (\frac{d\,e^2}{4b^2})^{1/6}",
    "C1-sizes": r"T=O(\epsilon^{-2}),\,I_1=O(\sigma_g^2\epsilon^{-2}),\,I_2=O(d+d\sigma_z^2\epsilon^{-2}),\,\mu=O(\epsilon/(L_zd))",
    "C1": r"T(I_1+2I_2) = O(\epsilon^{-4})\,\text{ calls},\,\,\,T(I_1+2I_2)B = O(\epsilon^{-6}),\text{ or }\,O(\epsilon^{-4})\,\text{ with }\,\eta=O(\epsilon^2)",
    "C1-samples": r"\sqrt{\E\norm\hat{g}-G\norm^2} \le \epsilon\,\text{ at }\,I \propto \epsilon^{-2}",
    "model-V4": r"\E[\hat{g}_\alpha\mid B] = \nabla_\alpha\E_t\,\ell_B(t)",
    "model-V5": r"\tr\Cov(\hat{g}) = \text{V5 over the 25 prompts}",
    "model-V4-run": r"\frac{\E\,\hat{g}_\alpha\cdot\nabla L}{\norm\nabla L\norm^2} = 1",
    "model-V5-run": r"\E\norm\hat{g}-G\norm^2 = \text{V5 over the 25 prompts}",
    "model-A3": r"\max f \le \log C",
    "model-A1": r"\eta_z \le \frac{1}{L_z}\min(1,\,\frac{I_2}{4(d+2)}),\,\,\,L_z \ge \max\mid h''(x)\mid",
}
