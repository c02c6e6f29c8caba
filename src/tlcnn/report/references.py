"""The works that a report cites, each where the report has what it is cited for."""

from collections.abc import Callable

from tlcnn.records.plan_record import PlanRecord
from tlcnn.report.content import Content
from tlcnn.report.searches import list_searches

REFERENCES = "References"  # the heading of the paragraph

IsCited = Callable[[Content], bool]


def _of_setting(key: str, value: object) -> IsCited:
    return lambda content: any(plan.settings.get(key) == value for plan in _list_plans(content))


def _of_measure(key: str) -> IsCited:
    return lambda content: any(
        (part.readings["measure"] == key).any() for part in content.measures
    )


def _has_folds(content: Content) -> bool:
    return any(plan.settings.get("dataset.folds") for plan in _list_plans(content))


def _list_plans(content: Content) -> list[PlanRecord]:
    plans = content.runs.get("plan", ())
    return [plan for plan in plans if isinstance(plan, PlanRecord) and not plan.imported]


def _of_search(*names: str) -> IsCited:
    return lambda content: any(
        {search.method, search.prune} & {*names} for search in list_searches(content.runs)
    )


WORKS: tuple[tuple[str, IsCited], ...] = (
    (
        "Akiba T, Sano S, Yanase T, Ohta T, Koyama M. Optuna: a next-generation hyperparameter "
        "optimization framework. KDD, 2019. arXiv:1907.10902.",
        _of_search("tpe", "gp"),
    ),
    (
        "Alain G, Bengio Y. Understanding intermediate layers using linear classifier probes. "
        "ICLR workshop, 2017. arXiv:1610.01644.",
        _of_measure("probe"),
    ),
    (
        "Bansal Y, Nakkiran P, Barak B. Revisiting model stitching to compare neural "
        "representations. NeurIPS 34, 2021. arXiv:2106.07682.",
        _of_measure("stitch"),
    ),
    (
        "Bergstra J, Bardenet R, Bengio Y, Kégl B. Algorithms for hyper-parameter optimization. "
        "NeurIPS 24, 2011.",
        _of_search("tpe"),
    ),
    (
        "Borkowski AA, Bui MM, Thomas LB, et al. Lung and colon cancer histopathological image "
        "dataset (LC25000). arXiv:1912.12142, 2019.",
        _of_setting("dataset.kind", "lc25000_lung"),
    ),
    (
        "Bouckaert RR, Frank E. Evaluating the replicability of significance tests for comparing "
        "learning algorithms. PAKDD, LNCS 3056:3-12, 2004.",
        _has_folds,
    ),
    (
        "Golovin D, Solnik B, Moitra S, et al. Google Vizier: a service for black-box "
        "optimization. KDD, 2017.",
        _of_search("median"),
    ),
    (
        "Guo C, Pleiss G, Sun Y, Weinberger KQ. On calibration of modern neural networks. ICML, "
        "PMLR 70:1321-1330, 2017.",
        lambda content: len(content.calibration) > 0,
    ),
    (
        "Hoenig JM, Heisey DM. The abuse of power: the pervasive fallacy of power calculations "
        "for data analysis. The American Statistician 55:19-24, 2001.",
        lambda content: len(content.comparisons) > 0,
    ),
    (
        "Holm S. A simple sequentially rejective multiple test procedure. Scandinavian Journal of "
        "Statistics 6:65-70, 1979.",
        lambda content: len(content.comparisons) > 0,
    ),
    (
        "Jamieson K, Talwalkar A. Non-stochastic best arm identification and hyperparameter "
        "optimization. AISTATS, PMLR 51, 2016. arXiv:1502.07943.",
        _of_search("halving"),
    ),
    (
        "Kornblith S, Norouzi M, Lee H, Hinton G. Similarity of neural network representations "
        "revisited. ICML, PMLR 97:3519-3529, 2019.",
        _of_measure("cka"),
    ),
    (
        "Lee Y, Chen AS, Tajwar F, et al. Surgical fine-tuning improves adaptation to "
        "distribution shifts. ICLR, 2023. arXiv:2210.11466.",
        _of_measure("gradient"),
    ),
    (
        "Loshchilov I, Hutter F. Decoupled weight decay regularization. ICLR, 2019. "
        "arXiv:1711.05101.",
        _of_setting("train.optimizer", "adamw"),
    ),
    (
        "Nadeau C, Bengio Y. Inference for the generalization error. Machine Learning 52:239-281, "
        "2003.",
        _has_folds,
    ),
    (
        "Phipson B, Smyth GK. Permutation P-values should never be zero: calculating exact "
        "P-values when permutations are randomly drawn. Statistical Applications in Genetics and "
        "Molecular Biology 9(1):39, 2010.",
        lambda content: len(content.comparisons) > 0,
    ),
    (
        "Raghu M, Gilmer J, Yosinski J, Sohl-Dickstein J. SVCCA: singular vector canonical "
        "correlation analysis for deep learning dynamics and interpretability. NeurIPS 30, 2017.",
        _of_measure("svcca"),
    ),
    (
        "Rao JNK, Wu CFJ. Resampling inference with complex survey data. Journal of the American "
        "Statistical Association 83:231-241, 1988.",
        lambda content: len(content.cells) > 0,
    ),
    (
        "Saerens M, Latinne P, Decaestecker C. Adjusting the outputs of a classifier to new a "
        "priori probabilities: a simple procedure. Neural Computation 14:21-41, 2002.",
        lambda content: len(content.calibration) > 0,
    ),
    (
        "Satterthwaite FE. An approximate distribution of estimates of variance components. "
        "Biometrics Bulletin 2:110-114, 1946.",
        lambda content: len(content.cells) > 0,
    ),
    (
        "Schuirmann DJ. A comparison of the two one-sided tests procedure and the power approach "
        "for assessing the equivalence of average bioavailability. Journal of Pharmacokinetics "
        "and Biopharmaceutics 15:657-680, 1987.",
        lambda content: len(content.comparisons) > 0,
    ),
    (
        "Tschandl P, Rosendahl C, Kittler H. The HAM10000 dataset, a large collection of "
        "multi-source dermatoscopic images of common pigmented skin lesions. Scientific Data "
        "5:180161, 2018.",
        _of_setting("dataset.kind", "ham10000"),
    ),
    (
        "Yang J, Shi R, Wei D, et al. MedMNIST v2: a large-scale lightweight benchmark for 2D and "
        "3D biomedical image classification. Scientific Data 10:41, 2023.",
        _of_setting("dataset.kind", "medmnist"),
    ),
    (
        "Yosinski J, Clune J, Bengio Y, Lipson H. How transferable are features in deep neural "
        "networks? NeurIPS 27:3320-3328, 2014. arXiv:1411.1792.",
        lambda content: len(content.layers) > 0,
    ),
    (
        "You K, Liu Y, Wang J, Long M. LogME: practical assessment of pre-trained models for "
        "transfer learning. ICML, PMLR 139, 2021. arXiv:2102.11005.",
        _of_measure("logme"),
    ),
    (
        "Zhang C, Bengio S, Singer Y. Are all layers created equal? Journal of Machine Learning "
        "Research 23(67):1-28, 2022.",
        _of_measure("reinit"),
    ),
)


def list_references(content: Content) -> tuple[str, ...]:
    """Return the works that a report cites, by their first authors."""
    return tuple(work for work, is_cited in WORKS if is_cited(content))
