"""Names, codes and units of the standardised features and of the ways to aggregate texture matrices.

References
----------
Image Biomarker Standardisation Initiative reference manual, arXiv 1612.07003, chapters 3 and 5; Zwanenburg et al.,
Radiology 2020, doi 10.1148/radiol.2020191145. Units are UCUM's.
"""

from dataclasses import dataclass
from enum import StrEnum


class Family(StrEnum):
    """Families of features, by the name that the settings use."""

    MORPHOLOGY = "morphology"
    LOCAL_INTENSITY = "local_intensity"
    STATISTICS = "statistics"
    INTENSITY_HISTOGRAM = "intensity_histogram"
    INTENSITY_VOLUME_HISTOGRAM = "intensity_volume_histogram"
    GLCM = "glcm"
    GLRLM = "glrlm"
    GLSZM = "glszm"
    GLDZM = "gldzm"
    NGTDM = "ngtdm"
    NGLDM = "ngldm"


class Aggregation(StrEnum):
    """How the texture matrices of directions and slices become one value; the names are those of the manual."""

    SLICES_AVERAGED = "2D, averaged"
    SLICES_MERGED = "2D, slice-merged"
    DIRECTIONS_MERGED = "2.5D, direction-merged"
    SLICES_AND_DIRECTIONS_MERGED = "2.5D, merged"
    VOLUME_AVERAGED = "3D, averaged"
    VOLUME_MERGED = "3D, merged"


@dataclass(frozen=True)
class FeatureName:
    """What the manual calls a feature."""

    ibsi_code: str
    name: str
    unit: str
    """`{i}` stands for the unit of the intensities."""
    family: Family


FAMILY_CODES = {
    Family.MORPHOLOGY: "HCUG",
    Family.LOCAL_INTENSITY: "9ST6",
    Family.STATISTICS: "UHIW",
    Family.INTENSITY_HISTOGRAM: "ZVCW",
    Family.INTENSITY_VOLUME_HISTOGRAM: "P88C",
    Family.GLCM: "LFYI",
    Family.GLRLM: "TP0I",
    Family.GLSZM: "9SAK",
    Family.GLDZM: "VMDZ",
    Family.NGTDM: "IPET",
    Family.NGLDM: "REK0",
}

WITH_DIRECTIONS = frozenset({Family.GLCM, Family.GLRLM})
"""Families with one matrix for each direction; the other textures have one for each slice, or one alone."""
TEXTURES = WITH_DIRECTIONS | {Family.GLSZM, Family.GLDZM, Family.NGTDM, Family.NGLDM}

DIRECTION_CODES = {
    Aggregation.SLICES_AVERAGED: "BTW3",
    Aggregation.SLICES_MERGED: "SUJT",
    Aggregation.DIRECTIONS_MERGED: "JJUI",
    Aggregation.SLICES_AND_DIRECTIONS_MERGED: "ZW7Z",
    Aggregation.VOLUME_AVERAGED: "ITBB",
    Aggregation.VOLUME_MERGED: "IAZD",
}
"""Codes of the aggregations of the families with directions."""
SLICE_CODES = {"2D": "8QNN", "2.5D": "62GR", "3D": "KOBO"}
"""Codes of the aggregations of the other textures, of which a direction says nothing."""

_FAMILY_OF_PREFIX = {
    "morph": Family.MORPHOLOGY,
    "loc": Family.LOCAL_INTENSITY,
    "stat": Family.STATISTICS,
    "ih": Family.INTENSITY_HISTOGRAM,
    "ivh": Family.INTENSITY_VOLUME_HISTOGRAM,
    "cm": Family.GLCM,
    "rlm": Family.GLRLM,
    "szm": Family.GLSZM,
    "dzm": Family.GLDZM,
    "ngt": Family.NGTDM,
    "ngl": Family.NGLDM,
}

_TABLE = """
morph_volume               RNU0  mm3      Volume (mesh)
morph_vol_approx           YEKZ  mm3      Volume (voxel counting)
morph_area_mesh            C0JK  mm2      Surface area (mesh)
morph_av                   2PR5  /mm      Surface to volume ratio
morph_comp_1               SKGS  1        Compactness 1
morph_comp_2               BQWJ  1        Compactness 2
morph_sph_dispr            KRCK  1        Spherical disproportion
morph_sphericity           QCFX  1        Sphericity
morph_asphericity          25C7  1        Asphericity
morph_com                  KLMA  mm       Centre of mass shift
morph_integ_int            99N0  {i}.mm3  Integrated intensity
morph_diam                 L0JK  mm       Maximum 3D diameter
morph_vol_dens_conv_hull   R3ER  1        Volume density (convex hull)
morph_area_dens_conv_hull  7T7F  1        Area density (convex hull)
morph_vol_dens_aabb        PBX1  1        Volume density (axis-aligned bounding box)
morph_area_dens_aabb       R59B  1        Area density (axis-aligned bounding box)
morph_pca_maj_axis         TDIC  mm       Major axis length
morph_pca_min_axis         P9VJ  mm       Minor axis length
morph_pca_least_axis       7J51  mm       Least axis length
morph_pca_elongation       Q3CK  1        Elongation
morph_pca_flatness         N17B  1        Flatness
morph_vol_dens_aee         6BDE  1        Volume density (approximate enclosing ellipsoid)
morph_area_dens_aee        RDD2  1        Area density (approximate enclosing ellipsoid)
morph_moran_i              N365  1        Moran's I index
morph_geary_c              NPT7  1        Geary's C measure
loc_peak_loc               VJGA  {i}      Local intensity peak
loc_peak_glob              0F91  {i}      Global intensity peak
ivh_v10                    BC2M  1        Volume at intensity fraction 10 %
ivh_v90                    BC2M  1        Volume at intensity fraction 90 %
ivh_i10                    GBPN  {i}      Intensity at volume fraction 10 %
ivh_i90                    GBPN  {i}      Intensity at volume fraction 90 %
ivh_diff_v10_v90           DDTU  1        Volume fraction difference between intensity fractions 10 % and 90 %
ivh_diff_i10_i90           CNV2  {i}      Intensity fraction difference between volume fractions 10 % and 90 %
stat_mean                  Q4LE  {i}      Mean intensity
stat_var                   ECT3  {i}2     Intensity variance
stat_skew                  KE2A  1        Intensity skewness
stat_kurt                  IPH6  1        (Excess) intensity kurtosis
stat_median                Y12H  {i}      Median intensity
stat_min                   1GSF  {i}      Minimum intensity
stat_p10                   QG58  {i}      10th intensity percentile
stat_p90                   8DWT  {i}      90th intensity percentile
stat_max                   84IY  {i}      Maximum intensity
stat_iqr                   SALO  {i}      Intensity interquartile range
stat_range                 2OJQ  {i}      Intensity range
stat_mad                   4FUA  {i}      Intensity-based mean absolute deviation
stat_rmad                  1128  {i}      Intensity-based robust mean absolute deviation
stat_medad                 N72L  {i}      Intensity-based median absolute deviation
stat_cov                   7TET  1        Intensity-based coefficient of variation
stat_qcod                  9S40  1        Intensity-based quartile coefficient of dispersion
stat_energy                N8CA  {i}2     Intensity-based energy
stat_rms                   5ZWQ  {i}      Root mean square intensity
ih_mean                    X6K6  1        Mean discretised intensity
ih_var                     CH89  1        Discretised intensity variance
ih_skew                    88K1  1        Discretised intensity skewness
ih_kurt                    C3I7  1        (Excess) discretised intensity kurtosis
ih_median                  WIFQ  1        Median discretised intensity
ih_min                     1PR8  1        Minimum discretised intensity
ih_p10                     GPMT  1        10th discretised intensity percentile
ih_p90                     OZ0C  1        90th discretised intensity percentile
ih_max                     3NCY  1        Maximum discretised intensity
ih_mode                    AMMC  1        Intensity histogram mode
ih_iqr                     WR0O  1        Discretised intensity interquartile range
ih_range                   5Z3W  1        Discretised intensity range
ih_mad                     D2ZX  1        Intensity histogram mean absolute deviation
ih_rmad                    WRZB  1        Intensity histogram robust mean absolute deviation
ih_medad                   4RNL  1        Intensity histogram median absolute deviation
ih_cov                     CWYJ  1        Intensity histogram coefficient of variation
ih_qcod                    SLWD  1        Intensity histogram quartile coefficient of dispersion
ih_entropy                 TLU2  1        Discretised intensity entropy
ih_uniformity              BJ5W  1        Discretised intensity uniformity
ih_max_grad                12CE  1        Maximum histogram gradient
ih_max_grad_g              8E6O  1        Maximum histogram gradient intensity
ih_min_grad                VQB3  1        Minimum histogram gradient
ih_min_grad_g              RHQZ  1        Minimum histogram gradient intensity
cm_joint_max               GYBY  1        Joint maximum
cm_joint_avg               60VM  1        Joint average
cm_joint_var               UR99  1        Joint variance
cm_joint_entr              TU9B  1        Joint entropy
cm_diff_avg                TF7R  1        Difference average
cm_diff_var                D3YU  1        Difference variance
cm_diff_entr               NTRS  1        Difference entropy
cm_sum_avg                 ZGXS  1        Sum average
cm_sum_var                 OEEB  1        Sum variance
cm_sum_entr                P6QZ  1        Sum entropy
cm_energy                  8ZQL  1        Angular second moment
cm_contrast                ACUI  1        Contrast
cm_dissimilarity           8S9J  1        Dissimilarity
cm_inv_diff                IB1Z  1        Inverse difference
cm_inv_diff_norm           NDRX  1        Normalised inverse difference
cm_inv_diff_mom            WF0Z  1        Inverse difference moment
cm_inv_diff_mom_norm       1QCO  1        Normalised inverse difference moment
cm_inv_var                 E8JP  1        Inverse variance
cm_corr                    NI2N  1        Correlation
cm_auto_corr               QWB0  1        Autocorrelation
cm_clust_tend              DG8W  1        Cluster tendency
cm_clust_shade             7NFM  1        Cluster shade
cm_clust_prom              AE86  1        Cluster prominence
cm_info_corr1              R8DG  1        Information correlation 1
cm_info_corr2              JN9H  1        Information correlation 2
rlm_sre                    22OV  1        Short runs emphasis
rlm_lre                    W4KF  1        Long runs emphasis
rlm_lgre                   V3SW  1        Low grey level run emphasis
rlm_hgre                   G3QZ  1        High grey level run emphasis
rlm_srlge                  HTZT  1        Short run low grey level emphasis
rlm_srhge                  GD3A  1        Short run high grey level emphasis
rlm_lrlge                  IVPO  1        Long run low grey level emphasis
rlm_lrhge                  3KUM  1        Long run high grey level emphasis
rlm_glnu                   R5YN  1        Grey level non-uniformity
rlm_glnu_norm              OVBL  1        Normalised grey level non-uniformity
rlm_rlnu                   W92Y  1        Run length non-uniformity
rlm_rlnu_norm              IC23  1        Normalised run length non-uniformity
rlm_r_perc                 9ZK5  1        Run percentage
rlm_gl_var                 8CE5  1        Grey level variance
rlm_rl_var                 SXLW  1        Run length variance
rlm_rl_entr                HJ9O  1        Run entropy
szm_sze                    5QRC  1        Small zone emphasis
szm_lze                    48P8  1        Large zone emphasis
szm_lgze                   XMSY  1        Low grey level zone emphasis
szm_hgze                   5GN9  1        High grey level zone emphasis
szm_szlge                  5RAI  1        Small zone low grey level emphasis
szm_szhge                  HW1V  1        Small zone high grey level emphasis
szm_lzlge                  YH51  1        Large zone low grey level emphasis
szm_lzhge                  J17V  1        Large zone high grey level emphasis
szm_glnu                   JNSA  1        Grey level non-uniformity
szm_glnu_norm              Y1RO  1        Normalised grey level non-uniformity
szm_zsnu                   4JP3  1        Zone size non-uniformity
szm_zsnu_norm              VB3A  1        Normalised zone size non-uniformity
szm_z_perc                 P30P  1        Zone percentage
szm_gl_var                 BYLV  1        Grey level variance
szm_zs_var                 3NSA  1        Zone size variance
szm_zs_entr                GU8N  1        Zone size entropy
dzm_sde                    0GBI  1        Small distance emphasis
dzm_lde                    MB4I  1        Large distance emphasis
dzm_lgze                   S1RA  1        Low grey level zone emphasis
dzm_hgze                   K26C  1        High grey level zone emphasis
dzm_sdlge                  RUVG  1        Small distance low grey level emphasis
dzm_sdhge                  DKNJ  1        Small distance high grey level emphasis
dzm_ldlge                  A7WM  1        Large distance low grey level emphasis
dzm_ldhge                  KLTH  1        Large distance high grey level emphasis
dzm_glnu                   VFT7  1        Grey level non-uniformity
dzm_glnu_norm              7HP3  1        Normalised grey level non-uniformity
dzm_zdnu                   V294  1        Zone distance non-uniformity
dzm_zdnu_norm              IATH  1        Normalised zone distance non-uniformity
dzm_z_perc                 VIWW  1        Zone percentage
dzm_gl_var                 QK93  1        Grey level variance
dzm_zd_var                 7WT1  1        Zone distance variance
dzm_zd_entr                GBDU  1        Zone distance entropy
ngt_coarseness             QCDE  1        Coarseness
ngt_contrast               65HE  1        Contrast
ngt_busyness               NQ30  1        Busyness
ngt_complexity             HDEZ  1        Complexity
ngt_strength               1X9X  1        Strength
ngl_lde                    SODN  1        Low dependence emphasis
ngl_hde                    IMOQ  1        High dependence emphasis
ngl_lgce                   TL9H  1        Low grey level count emphasis
ngl_hgce                   OAE7  1        High grey level count emphasis
ngl_ldlge                  EQ3F  1        Low dependence low grey level emphasis
ngl_ldhge                  JA6D  1        Low dependence high grey level emphasis
ngl_hdlge                  NBZI  1        High dependence low grey level emphasis
ngl_hdhge                  9QMG  1        High dependence high grey level emphasis
ngl_glnu                   FP8K  1        Grey level non-uniformity
ngl_glnu_norm              5SPA  1        Normalised grey level non-uniformity
ngl_dcnu                   Z87G  1        Dependence count non-uniformity
ngl_dcnu_norm              OKJI  1        Normalised dependence count non-uniformity
ngl_dc_perc                6XV8  1        Dependence count percentage
ngl_gl_var                 1PFV  1        Grey level variance
ngl_dc_var                 DNX2  1        Dependence count variance
ngl_dc_entr                FCBV  1        Dependence count entropy
ngl_dc_energy              CAS9  1        Dependence count energy
"""


def _read(line: str) -> tuple[str, FeatureName]:
    tag, code, unit, name = line.split(maxsplit=3)
    return tag, FeatureName(code, name, unit, _FAMILY_OF_PREFIX[tag.split("_")[0]])


FEATURE_NAMES = dict(map(_read, _TABLE.strip().splitlines()))
"""The 169 features that have reference values, by the tag of the manual."""
